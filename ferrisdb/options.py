"""Say how a service runs: its settings, their bounds, and where they come from.

A later source wins: the defaults below, then `DIR/ferrisdb.toml`, then what the command line
says. A setting that isn't known or fits no bound is a `UsageError` that names the setting, its
bounds and the source; a service never starts on a guess.

Sizes (names that end in `_bytes` or `_bytes_max`) may be written with a unit, `"64MiB"`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from ferrisdb import errors, limits

FILE_NAME: Final = "ferrisdb.toml"

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

SOCKET_DURABILITIES: Final = ("sync", "os")

AUTO_IDLE_EXIT_S: Final = 2.0
"""How long a service that `open` started stays after its last client has left."""

_UNITS: Final = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


_TEXT_CHARS_MAX: Final = 4096


def _number(default: float | None, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "text": text})


def _count(default: int | None, low: int, high: int, text: str) -> Any:
    """Describe a whole number that may be absent."""
    return field(default=default, metadata={"low": low, "high": high, "text": text, "whole": True})


def _choice(default: str, choices: tuple[str, ...], text: str) -> Any:
    return field(default=default, metadata={"choices": choices, "text": text})


def _words(default: str | None, text: str) -> Any:
    """Describe a text: a name, or a path."""
    return field(default=default, metadata={"chars_max": _TEXT_CHARS_MAX, "text": text})


def _switch(text: str) -> Any:
    return field(default=False, metadata={"switch": True, "text": text})


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of one service, checked.

    Raises:  UsageError, for a value of the wrong type or out of its bounds.
    """

    memtable_bytes: int = _number(
        limits.MEMTABLE_BYTES_DEFAULT,
        limits.MEMTABLE_BYTES_MIN,
        limits.MEMTABLE_BYTES_MAX,
        "size of a memtable's segment; a batch may take half of it",
    )
    frozen_memtable_count_max: int = _number(
        2, 1, 16, "frozen memtables that wait for their flush before writers wait, too"
    )
    wal_sync_interval_s: float = _number(
        1.0, 0.01, 3600, 'longest that an "os" write stays unsynced'
    )
    block_bytes: int = _number(4096, 64, 1 << 20, "size of a table's data block")
    table_bytes: int = _number(
        64 << 20, 4096, 1 << 31, "size at which a table that compaction writes ends"
    )
    level_base_bytes: int = _number(
        256 << 20, 4096, 1 << 40, "largest size of the level that takes what is flushed"
    )
    hash_index_bytes: int = _number(
        4 << 30, 0, 1 << 50, "size of all hash indexes above which the lowest tables have none"
    )
    compaction_bytes_per_s: int = _number(
        0, 0, 1 << 40, "most that compaction writes a second; 0: no limit"
    )
    reader_count: int | None = _count(
        None, 0, 256, "reader workers that serve sockets; absent: one for each core; 0: no sockets"
    )
    socket_group: str | None = _words(
        None, "group whose members may use the Unix socket; absent: only the service's user"
    )
    tcp_host: str = _words("127.0.0.1", "address that the TCP ports are bound to")
    tcp_port: int | None = _count(
        None, 1, 65_535, "TCP port; absent: none; it takes users with passwords (users.toml)"
    )
    tls_port: int | None = _count(None, 1, 65_535, "TCP port for TLS; absent: none")
    tls_cert_file: str | None = _words(
        None, "certificate chain for TLS, in PEM; a relative path is meant from the directory"
    )
    tls_key_file: str | None = _words(
        None, "the certificate's private key; absent: it is in the same file"
    )
    socket_durability: str = _choice(
        "sync", SOCKET_DURABILITIES, "durability of writes by sockets that choose none"
    )
    connection_count_max: int = _number(
        10_000, 1, 1_000_000, "most socket connections of one reader worker"
    )
    connection_idle_s: float = _number(
        0.0, 0, 31_536_000, "a connection that is silent for longer is closed; 0: never"
    )
    request_bytes_max: int = _number(
        64 << 20, 64 << 10, 1 << 30, "longest request, and longest argument, by a socket"
    )
    output_bytes_max: int = _number(
        256 << 20, 1 << 20, 1 << 34, "a connection with more answers not taken is closed"
    )
    debug_commands: bool = _switch("whether sockets may use DEBUG")
    idle_exit_s: float | None = _number(
        None, 0, 86_400, "leave that long after the last client; absent: stay"
    )
    max_snapshot_age_s: float = _number(
        3600.0, 1, 30 * 86_400, "a snapshot older than this is revoked"
    )
    log_level: str = _choice("info", LOG_LEVELS, "least message to log")

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check(setting.name, getattr(self, setting.name), setting.metadata, setting.default)

    @property
    def worker_count(self) -> int:
        """Reader workers that a service with these settings has."""
        if self.reader_count is not None:
            return self.reader_count
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    @classmethod
    def load(cls, directory: str, overrides: Mapping[str, Any] | None = None) -> Options:
        """Read a directory's settings; an override that is None counts as not given.

        Raises:  UsageError, for a setting that is unknown or out of bounds and for a file that
                 isn't TOML; AccessError and StorageError, for one that can't be read.
        """
        path = Path(directory) / FILE_NAME
        settings = _from_mapping(_read(path), str(path))
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        settings |= _from_mapping(given, "command line")
        return cls(**settings)


def parse_bytes(text: str) -> int:
    """Read a size: digits, and one of KiB, MiB, GiB in any case, or nothing.

    Raises:  UsageError, if it isn't one.
    """
    match = re.fullmatch(r"\s*(\d{1,18})\s*([a-z]*)\s*", text.lower())
    if match is None or match.group(2) not in _UNITS:
        raise errors.UsageError(f"{text!r} is no size: write bytes, or 64KiB, 64MiB, 1GiB")
    return int(match.group(1)) * _UNITS[match.group(2)]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        raise errors.AccessError(f"{path}: no permission to read the settings") from error
    except OSError as error:
        raise errors.StorageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"{path} is not TOML: {error}") from error


def _from_mapping(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings under their known names, sizes as numbers."""
    known = [setting.name for setting in fields(Options)]
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise errors.UsageError(f"{source}: no setting {name!r}; {_nearest(name, known)}")
        settings[name] = value
    try:
        for name, value in settings.items():
            if name.endswith(("_bytes", "_bytes_max")) and isinstance(value, str):
                settings[name] = parse_bytes(value)
        Options(**settings)
    except errors.UsageError as error:
        raise errors.UsageError(f"{source}: {error}") from None
    return settings


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _check(name: str, value: object, rule: Mapping[str, Any], default: object) -> None:
    if value is None and default is None:
        return
    if "choices" in rule:
        fits, wanted = value in rule["choices"], f"one of {', '.join(rule['choices'])}"
    elif "chars_max" in rule:
        most: int = rule["chars_max"]
        fits = isinstance(value, str) and 0 < len(value) <= most and value.isprintable()
        wanted = f"a text of 1 to {most} printable characters"
    elif "switch" in rule:
        fits, wanted = isinstance(value, bool), "true or false"
    else:
        whole = isinstance(default, int) or "whole" in rule
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        # A NaN compares false with everything, so it is refused here too.
        fits = number and rule["low"] <= value <= rule["high"]
        wanted = f"{'a whole number' if whole else 'a number'} from {rule['low']} to {rule['high']}"
    if not fits:
        raise errors.UsageError(f"{name} is {value!r}; it must be {wanted}")
