"""FerrisDB by its socket: Redis's protocol, and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import ferrisdb
from ferrisdb.bench.engines.attached import TIMEOUT_S, Ferris, rest
from ferrisdb.bench.engines.base import EngineError, Pairs
from ferrisdb.bench.engines.over_socket import OverSocket
from ferrisdb.socket_path import connect_path

PAGE_ROWS: Final = 500


class FerrisSocket(OverSocket):
    """FerrisDB's Redis protocol, by a Unix socket."""

    name = "ferrisdb-socket"
    title = "FerrisDB, by its socket"
    setup = "default settings; Redis's protocol by a Unix socket, a lean client, no pipelining"

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return f"the service answers: FERRIS.DURABILITY {durability}"

    @classmethod
    @contextmanager
    def served(cls, folder: str, settings: dict[str, Any] | None = None) -> Iterator[None]:
        """Keep the service by being attached to it."""
        with Ferris.served(folder, settings):
            yield

    def _path(self, folder: str) -> str:
        path = connect_path(folder)
        if path is None:
            raise EngineError(f"the service for {folder} has no socket")
        return path

    def _choose(self, durability: str) -> None:
        self._call(b"FERRIS.DURABILITY", durability.encode())

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return `count` rows from `key` on."""
        return self._range(key, b"", b"LIMIT", b"%d" % count)

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return every row, in pages."""
        start, end = b"", b""
        words = (b"LIMIT", b"%d" % PAGE_ROWS, *((b"REV",) if reverse else ()))
        while rows := self._range(start, end, *words):
            yield from rows
            last = rows[-1][0]
            start, end = (b"", last) if reverse else (last + b"\0", b"")

    def _range(self, start: bytes, end: bytes, *words: bytes) -> Pairs:
        rows: Any = self._call(b"FERRIS.RANGE", start, end, *words)
        return [(row[0], row[1]) for row in rows]

    def settle(self) -> None:
        """Compact everything, as an attached process."""
        with ferrisdb.open(self._folder, timeout=TIMEOUT_S) as db:
            db.compact()

    def rest(self, seconds: float) -> None:
        """Wait for compaction, as an attached process."""
        with ferrisdb.open(self._folder, timeout=TIMEOUT_S) as db:
            rest(db, seconds)
