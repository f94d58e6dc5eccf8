"""FerrisDB, attached: reads happen in the client's process, writes go to the service."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import ferrisdb
from ferrisdb import service
from ferrisdb.bench.engines.base import OS, PEERS_SETTINGS, Engine, EngineError, Pairs, wait_until
from ferrisdb.options import FILE_NAME
from ferrisdb.shm.locks import DirectoryLock

TIMEOUT_S: Final = 60.0


class Ferris(Engine):
    """One attached handle; the service runs in processes of its own."""

    name = "ferrisdb"
    title = "FerrisDB, attached"
    setup = "default settings"

    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        prepare(folder, settings)
        self.db = ferrisdb.open(folder, timeout=TIMEOUT_S, durability=durability)
        self.get: Callable[[bytes], bytes | None] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put
        self.put_batch: Callable[[Pairs], Any] = self.db.put_many
        self.multi_get: Callable[[list[bytes]], Any] = self.db.multi_get
        self.delete: Callable[[bytes], Any] = self.db.delete

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return (
            "the system has it and every reader sees it"
            if durability == OS
            else "it is on the disk and every reader sees it"
        )

    @classmethod
    @contextmanager
    def served(cls, folder: str, settings: dict[str, Any] | None = None) -> Iterator[None]:
        """Keep the service by being attached to it."""
        prepare(folder, settings)
        try:
            with ferrisdb.open(folder, timeout=TIMEOUT_S):
                yield
        finally:
            end_service(folder)

    @classmethod
    def end(cls, folder: str) -> None:
        """End the service."""
        end_service(folder)

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return `count` rows from `key` on."""
        return list(self.db.scan(start=key, limit=count))

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        return self.db.scan(reverse=reverse)

    def row_count(self) -> int:
        """Count the rows."""
        return len(self.db)

    def replace(self, key: bytes, change: Callable[[bytes | None], bytes]) -> int:
        """Replace a value in a transaction, which is run again when it conflicts."""
        attempts = 0

        def run(tx: ferrisdb.Transaction) -> None:
            nonlocal attempts
            attempts += 1
            tx.put(key, change(tx.get(key)))

        self.db.transact(run)
        return attempts

    def settle(self) -> None:
        """Compact everything."""
        self.db.compact()

    def rest(self, seconds: float) -> None:
        """Wait for compaction."""
        rest(self.db, seconds)

    def close(self) -> None:
        """Detach."""
        self.db.close()


def prepare(folder: str, settings: dict[str, Any] | None) -> None:
    """Make the folder, and its file of settings if there are any of ours."""
    os.makedirs(folder, exist_ok=True)
    known = {name: value for name, value in (settings or {}).items() if name not in PEERS_SETTINGS}
    if known:
        with open(os.path.join(folder, FILE_NAME), "w", encoding="ascii") as file:
            file.writelines(f"{name} = {value!r}\n" for name, value in known.items())


def rest(db: ferrisdb.Database, seconds: float) -> None:
    """Wait until a service has nothing more to flush or merge."""

    def is_done() -> bool:
        db.get(b"")  # maps the newest version
        stats = db.stats()
        return bool(stats["at_rest"]) and len(stats["memtables"]) == 1

    wait_until(is_done, seconds)


def end_service(folder: str) -> None:
    """Have the service that `open` started leave at once, as it would by itself soon.

    Raises:  EngineError, it stays.
    """
    running = service.find(folder)
    if running is not None:
        os.kill(running.control.coordinator_pid, signal.SIGTERM)
    give_up = time.monotonic() + TIMEOUT_S
    while DirectoryLock.is_held(folder):
        if time.monotonic() > give_up:
            raise EngineError(f"the service for {folder} did not leave")
        time.sleep(0.005)
