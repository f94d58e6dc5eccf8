"""What an engine is to the harness: one handle of a store, and what to know of the store.

A handle is one process's, or one thread's. Its calls are bound to the store's own where these have
the right shape, so that nothing of ours is timed beside a peer.
"""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any, ClassVar, Final, Self

Pairs = list[tuple[bytes, bytes]]

OS: Final = "os"
SYNC: Final = "sync"

ABILITIES: Final = ("scan", "transactions", "mix")
"""What not every store can do: read rows in order; read and write a key as one; take writes that
are synced beside others that aren't."""


PEERS_SETTINGS: Final = ("cache_bytes", "filter_bits", "value_bytes")
"""Of a block cache, of filters in tables, and of the values that will come: ours has no use for
them."""


def wait_until(is_done: Callable[[], bool], seconds: float) -> None:
    """Wait until something is done, but no longer than that."""
    give_up = time.monotonic() + seconds
    while not is_done() and time.monotonic() < give_up:
        time.sleep(0.02)


CACHE_BYTES: Final = 256 << 20
FILTER_BITS: Final = 10
"""What `ferrisdb bench` gives an engine that has a use for them."""


class EngineError(Exception):
    """A store does not do what it is asked to; the message says what."""


class Engine(ABC):
    """One handle of a store.

    Owner:  one thread; `another` makes one for a further thread.
    """

    name: ClassVar[str]
    #: As people know it.
    title: ClassVar[str]
    #: How it is set up, whatever the durability.
    setup: ClassVar[str]
    #: Several processes may hold it at once; if not, the clients are threads of one process.
    shared: ClassVar[bool] = True
    #: Measured with several numbers of clients; if not, with the first of them alone.
    scales: ClassVar[bool] = True
    #: What is written can be read; if not, nothing that is read is checked.
    keeps: ClassVar[bool] = True
    #: Python package that it needs.
    package: ClassVar[str | None] = None
    #: Why it has not one of ABILITIES, for each that it has not.
    lacks: ClassVar[Mapping[str, str]] = {}

    #: Returns a key's value, None where there is none.
    get: Callable[[bytes], bytes | None]
    #: Writes a row; it is then as durable as the handle says.
    put: Callable[[bytes, bytes], Any]
    #: Writes rows, all of them or none.
    put_batch: Callable[[Pairs], Any]
    #: Reads many keys; what it returns is the store's business.
    multi_get: Callable[[list[bytes]], Any]
    delete: Callable[[bytes], Any]

    @abstractmethod
    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        """Open the store in a folder, made if it isn't there.

        Shape:   settings, `memtable_bytes` and those of PEERS_SETTINGS; an engine passes over
                 those that it has no use for.
        """

    @classmethod
    @abstractmethod
    def done_when(cls, durability: str) -> str:
        """Say what has happened when a write is done."""

    @classmethod
    def settings_of(cls, durability: str) -> str:
        """Say in one sentence how it is set up, and what a write's end means."""
        return f"{cls.setup}; a write is done when {cls.done_when(durability)}"

    @classmethod
    def missing(cls) -> str | None:
        """Say what is missing on this machine, and how to get it; None: nothing is."""
        if cls.package is None or importlib.util.find_spec(cls.package) is not None:
            return None
        return f"the Python package {cls.package} is not installed: pip install {cls.package}"

    @classmethod
    def reference(cls) -> str:
        """Return what leads another process to this class."""
        return f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def version(cls) -> str:
        """Return its version."""
        return metadata.version(cls.package or "ferrisdb")

    @classmethod
    @contextmanager
    def served(cls, folder: str, settings: dict[str, Any] | None = None) -> Iterator[None]:
        """Run what must run while handles of a folder come and go."""
        del folder, settings
        yield

    @classmethod
    def end(cls, folder: str) -> None:
        """End what a handle may have started that outlives it."""
        del folder

    def another(self, durability: str) -> Self:
        """Return a handle for another thread of this process."""
        raise NotImplementedError(f"{self.name}: each process has one handle, not {durability}")

    def ready(self, *, writers: bool = False) -> None:
        """Get ready to read what is there now.

        Shape:   writers, while others write: each read has to see the newest.
        """
        del writers

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return `count` rows from `key` on."""
        raise NotImplementedError(f"{self.name}: {self.lacks['scan']} {key!r} {count}")

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return every row in key order, or the other way."""
        raise NotImplementedError(f"{self.name}: {self.lacks['scan']} {reverse}")

    def row_count(self) -> int:
        """Count the rows."""
        return sum(1 for _ in self.all_rows())

    def replace(self, key: bytes, change: Callable[[bytes | None], bytes]) -> int:
        """Read a key and write what `change` makes of its value, as one transaction.

        Returns: how many attempts it took.
        """
        raise NotImplementedError(f"{self.name}: {self.lacks['transactions']} {key!r} {change}")

    def settle(self) -> None:
        """Do the work that writes have left for later, as far as the store can be asked to."""
        return

    def rest(self, seconds: float) -> None:
        """Wait until the store does nothing by itself any more, but no longer than that.

        What one store does in the background would slow down the one that is measured next.
        """
        del seconds

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()
