"""The stores that are measured, behind one small interface, each with settings that are fair."""

from __future__ import annotations

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
]
