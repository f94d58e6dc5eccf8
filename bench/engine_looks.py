"""Give each engine the same colour and mark in every plot, and say whom ours is compared with.

The colours are told apart by people with any of the usual forms of colour blindness, on white and
on black; lines have marks besides, and bars stand beside their engine's name.

Source: the palette of Masataka Okabe and Kei Ito, its yellow and black left out.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

OURS: Final = "ferrisdb"
OURS_BY_SOCKET: Final = "ferrisdb-socket"
SOCKET_ENGINES: Final = frozenset({OURS_BY_SOCKET, "redis", "redis-server", "valkey"})


@dataclass(frozen=True, slots=True)
class Look:
    """How an engine is drawn."""

    colour: str
    #: A mark's name in matplotlib.
    mark: str


_LOOKS: Final = {
    OURS: Look("#d55e00", "o"),
    OURS_BY_SOCKET: Look("#e69f00", "D"),
    "lmdb": Look("#0072b2", "s"),
    "rocksdict": Look("#009e73", "^"),
    "plyvel": Look("#56b4e9", "v"),
    "sqlite3": Look("#cc79a7", "P"),
    "redis": Look("#8c5a3c", "X"),
    "diskcache": Look("#8a8a8a", "*"),
}
_OTHERS: Final = tuple(
    Look(colour, mark) for colour in ("#7a6fc4", "#5f9ea0", "#b8860b") for mark in ("<", ">", "h")
)


def look_of(engine: str) -> Look:
    """Return an engine's look, the same one in every run."""
    name = "redis" if engine == "redis-server" else engine
    known = _LOOKS.get(name)
    return known or _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]


def compared_with(engine: str) -> str | None:
    """Return the engine of ours that another is compared with; None for ours."""
    if engine in (OURS, OURS_BY_SOCKET):
        return None
    return OURS_BY_SOCKET if engine in SOCKET_ENGINES else OURS
