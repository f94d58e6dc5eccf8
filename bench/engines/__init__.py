"""The stores that are measured, behind one small interface, each with settings that are fair."""

from __future__ import annotations

import importlib

from ferrisdb.bench.engines.attached import Ferris
from ferrisdb.bench.engines.base import ABILITIES, OS, SYNC, Engine, EngineError, Pairs
from ferrisdb.bench.engines.disk_cache import DiskCache
from ferrisdb.bench.engines.ferris_socket import FerrisSocket
from ferrisdb.bench.engines.leveldb import Level
from ferrisdb.bench.engines.lmdb import Lmdb
from ferrisdb.bench.engines.null import Null
from ferrisdb.bench.engines.redis import Redis
from ferrisdb.bench.engines.rocksdb import Rocks
from ferrisdb.bench.engines.sqlite import Sqlite

KINDS: tuple[type[Engine], ...] = (
    Ferris,
    FerrisSocket,
    Redis,
    Lmdb,
    Rocks,
    Level,
    Sqlite,
    DiskCache,
    Null,
)

ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in KINDS}
"""By name, in the order in which results show them."""


def engine_named(name: str) -> type[Engine]:
    """Return an engine by its name here, or by "module:class" for one of somebody else's.

    Raises:  ValueError, there is none.
    """
    if name in ENGINES:
        return ENGINES[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"no engine {name!r}; there are {', '.join(ENGINES)}, and any module:class"
        )
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no engine {name!r}: {error}") from None
    if not (isinstance(kind, type) and issubclass(kind, Engine)):
        raise ValueError(f"{name!r} is not a class derived from ferrisdb.bench.engines.Engine")
    return kind


__all__ = [
    "ABILITIES",
    "ENGINES",
    "OS",
    "SYNC",
    "DiskCache",
    "Engine",
    "EngineError",
    "Ferris",
    "FerrisSocket",
    "Level",
    "Lmdb",
    "Null",
    "Pairs",
    "Redis",
    "Rocks",
    "Sqlite",
    "engine_named",
]
