"""Goal: what growth reports is what was measured. Method: maps and results written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from ferrisdb.bench import drawing, growth_plot, reader_memory
from ferrisdb.bench.growing import keys_of, right, spread, value_of
from ferrisdb.bench.growth import Record, lines, sizes_of, too_large
from ferrisdb.bench.reader_memory import Private, private
from ferrisdb.cli.failure import CommandFailure

SMAPS = """\
55d0c0a00000-55d0c0b00000 r-xp 00000000 fe:00 1234      /usr/bin/python3.11
Rss:                1000 kB
Pss:                 300 kB
Private_Clean:       100 kB
Private_Dirty:        20 kB
7f0000000000-7f0004000000 r--s 00000000 fe:00 77        /srv/some data/db/000012.sst
Rss:                5000 kB
Private_Clean:      5000 kB
Private_Dirty:         0 kB
VmFlags: rd sh mr
7f0010000000-7f0014000000 r--s 00000000 fe:00 78        /srv/some data/db/000013.sst (deleted)
Rss:                   8 kB
Private_Clean:         8 kB
Private_Dirty:         0 kB
7f0020000000-7f0024000000 rw-s 00000000 00:17 9         /dev/shm/fdb0123.c0
Rss:                  64 kB
Private_Clean:         0 kB
Private_Dirty:        64 kB
7f0030000000-7f0034000000 rw-p 00000000 00:00 0
Rss:                 700 kB
Private_Clean:         0 kB
Private_Dirty:       700 kB
"""


def result(keys: int, own_bytes: int) -> dict[str, Any]:
    stage = {"uss_bytes": own_bytes, "own_bytes": own_bytes}
    return {
        "keys": keys,
        "tree": {"table_count": 3},
        "costs_us": {"get": spread([1.0, 3.0, 2.0]), "put": spread([9.0])},
        "reader": dict.fromkeys(reader_memory.STAGES, stage),
    }


def test_tables_and_segments_are_not_a_readers_own() -> None:
    assert private(SMAPS.splitlines()) == Private(
        uss_bytes=(100 + 20 + 5000 + 8 + 64 + 700) * 1024,
        own_bytes=(100 + 20 + 700) * 1024,
        tables=2,
        table_resident_bytes=5008 * 1024,
    )


def test_this_process_has_memory_of_its_own() -> None:
    found = reader_memory.now()
    assert 1_000_000 < found.own_bytes <= found.uss_bytes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("100k,1m", [100_000, 1_000_000]), ("5000", [5000]), ("2M,10K,10k", [10_000, 2_000_000])],
)
def test_sizes_are_read_ascending(text: str, sizes: list[int]) -> None:
    assert sizes_of(text) == sizes


@pytest.mark.parametrize("text", ["", "k", "0", "1g", "10k,", "-5", "1.5m"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 5000, 100k or 10m"):
        sizes_of(text)


def test_keys_are_distinct_and_values_tell_theirs() -> None:
    keys = keys_of(5, 10_005)
    assert keys[:5] == keys_of(5, 10) and len(set(keys)) == 10_000
    assert {len(key) for key in keys} == {16} and len(value_of(keys[0])) == 100
    assert right(keys[0], value_of(keys[0]))
    assert not right(keys[0], value_of(keys[1])) and not right(keys[0], None)


def test_a_record_keeps_sizes_in_order_and_replaces_none_but_its_own(tmp_path: Path) -> None:
    path = str(tmp_path / "growth.json")
    record = Record(path, {"machine": {}})
    record.add(result(2000, 1))
    record.add(result(1000, 2))
    record.add(result(2000, 3))
    again = Record(path, {"machine": {}})
    found = [(one["keys"], one["reader"]["attached"]["own_bytes"]) for one in again.found["sizes"]]
    assert found == [(1000, 2), (2000, 3)]
    assert again.has(2000) and not again.has(3000)


@pytest.mark.parametrize("text", ["", "[]", '{"sizes": [{}]}', json.dumps({"machine": {}})])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "growth.json"
    path.write_text(text)
    with pytest.raises(CommandFailure, match="name another file"):
        Record(str(path), {})
    assert path.read_text() == text


def test_a_reader_that_takes_too_much_is_named() -> None:
    sizes = [result(1000, 39_999_999), result(2000, 40_000_000)]
    (line,) = too_large(sizes)
    assert line.startswith("at 2,000 keys a reader takes 40.0 MB")


def test_the_table_has_a_column_a_size() -> None:
    sizes = [result(1000, 20_000_000), result(2000, 30_000_000)]
    del sizes[0]["costs_us"]["put"]
    table = {line[:28].strip(): line[28:].split() for line in lines(sizes)}
    assert table["keys"] == ["1,000", "2,000"]
    assert table["get, µs"] == ["2.000", "2.000"] and table["put, µs"] == ["9.000"]
    assert table["reader, attached, MB"] == ["20.0", "30.0"]


RECORD = {"machine": {"cpu": "a processor"}, "sizes": [result(1000, 1), result(5000, 2)]}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw once: matplotlib keeps the files of its fonts open, which is no test's fault."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("growth") / "images"
    growth_plot.write(RECORD, str(folder / "growth"))
    return folder


def test_the_plot_names_every_operation(images: Path) -> None:
    svg = (images / "growth.svg").read_text()
    for text in ("get", "put", "1k", "5k", "a processor", "asked: below"):
        assert f">{text}</text>" in svg
    assert (images / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_plot(images: Path) -> None:
    with drawing.style():
        assert growth_plot.picture(RECORD).svg == (images / "growth.svg").read_text()
