"""Goal: a service starts on exactly the settings that were given. Method: files and overrides."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path

import pytest

from ferrisdb import errors
from ferrisdb.options import Options, parse_bytes


def test_defaults_hold_without_a_file(tmp_path: Path) -> None:
    assert Options.load(str(tmp_path)) == Options()
    assert Options.load(str(tmp_path / "absent")) == Options()


def test_file_beats_default_and_override_beats_file(tmp_path: Path) -> None:
    (tmp_path / "ferrisdb.toml").write_text(
        'memtable_bytes = "1MiB"\nlog_level = "debug"\nidle_exit_s = 3\n'
    )
    options = Options.load(str(tmp_path), {"log_level": "error", "idle_exit_s": None})
    assert options.memtable_bytes == 1 << 20
    assert options.log_level == "error"
    assert options.idle_exit_s == 3


def test_options_are_frozen_and_pickle() -> None:
    options = Options(memtable_bytes=1 << 20)
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.log_level = "debug"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memtable_byte": 1}, "did you mean memtable_bytes?"),
        ({"colour": "red"}, "there are memtable_bytes"),
        ({"memtable_bytes": 1}, "memtable_bytes is 1; it must be a whole number from 262144"),
        ({"memtable_bytes": 1e6}, "a whole number"),
        ({"memtable_bytes": True}, "a whole number"),
        ({"memtable_bytes": "64 apples"}, "no size"),
        ({"wal_sync_interval_s": float("nan")}, "a number from 0.01"),
        ({"wal_sync_interval_s": "fast"}, "a number"),
        ({"log_level": "loud"}, "one of debug, info, warning, error"),
        ({"idle_exit_s": -1}, "from 0"),
        ({"tcp_port": 1.5}, "a whole number from 1 to 65535"),
        ({"reader_count": "many"}, "a whole number from 0"),
        ({"socket_durability": "async"}, "one of sync, os"),
        ({"tcp_host": ""}, "a text of 1 to"),
        ({"tls_key_file": "a\0b"}, "a text of 1 to"),
        ({"socket_group": 7}, "a text of 1 to"),
        ({"debug_commands": 1}, "true or false"),
        ({"request_bytes_max": "1KiB"}, "request_bytes_max is 1024"),
    ],
)
def test_bad_setting_is_refused_by_name(
    tmp_path: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(errors.UsageError, match="command line: ") as caught:
        Options.load(str(tmp_path), given)
    assert message in str(caught.value)


def test_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ferrisdb.toml"
    path.write_text("memtable_bytes = 1\n")
    with pytest.raises(errors.UsageError, match="ferrisdb.toml: memtable_bytes is 1"):
        Options.load(str(tmp_path))
    path.write_text("memtable_bytes: 1\n")
    with pytest.raises(errors.UsageError, match="is not TOML"):
        Options.load(str(tmp_path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(errors.UsageError, match="is not TOML"):
        Options.load(str(tmp_path))


def test_readers_are_one_for_each_core_unless_told() -> None:
    assert Options().worker_count == len(os.sched_getaffinity(0))
    assert Options(reader_count=0).worker_count == 0
    assert Options(reader_count=7).worker_count == 7


def test_sizes_that_are_bounds_take_units_too(tmp_path: Path) -> None:
    assert Options.load(str(tmp_path), {"output_bytes_max": "2MiB"}).output_bytes_max == 2 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("17", 17), ("64KiB", 65536), ("1 mib", 1 << 20), ("2GIB", 2 << 30)],
)
def test_sizes_take_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5MiB", "1MB", "MiB", "1" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="no size"):
        parse_bytes(text)
