"""Say how a service runs: its settings, their bounds, and where they come from.

A later source wins: the defaults below, then `DIR/ferrisdb.toml`, then what the command line
says. A setting that isn't known or fits no bound is a `UsageError` that names the setting, its
bounds and the source; a service never starts on a guess.

Sizes (names that end in `_bytes`) may be written with a unit, `"64MiB"`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from ferrisdb import errors, limits

FILE_NAME: Final = "ferrisdb.toml"

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

AUTO_IDLE_EXIT_S: Final = 2.0
"""How long a service that `open` started stays after its last client has left."""

_UNITS: Final = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def _number(default: float | None, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "text": text})


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
    reader_count: int = _number(0, 0, 256, "reader workers that serve sockets")
    idle_exit_s: float | None = _number(
        None, 0, 86_400, "leave that long after the last client; absent: stay"
    )
    max_snapshot_age_s: float = _number(
        3600.0, 1, 30 * 86_400, "a snapshot older than this is revoked"
    )
    log_level: str = field(
        default="info", metadata={"choices": LOG_LEVELS, "text": "least message to log"}
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check(setting.name, getattr(self, setting.name), setting.metadata, setting.default)

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
            if name.endswith("_bytes") and isinstance(value, str):
                settings[name] = parse_bytes(value)
        Options(**settings)
    except errors.UsageError as error:
        raise errors.UsageError(f"{source}: {error}") from None
    return settings


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _check(name: str, value: object, rule: Mapping[str, Any], default: object) -> None:
    if "choices" in rule:
        if value not in rule["choices"]:
            raise errors.UsageError(f"{name} is {value!r}; it is one of {', '.join(LOG_LEVELS)}")
        return
    if value is None and default is None:
        return
    whole = isinstance(default, int)
    wanted = "a whole number" if whole else "a number"
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    # A NaN compares false with everything, so it is refused here too.
    if not fits or not rule["low"] <= value <= rule["high"]:
        raise errors.UsageError(
            f"{name} is {value!r}; it must be {wanted} from {rule['low']} to {rule['high']}"
        )
