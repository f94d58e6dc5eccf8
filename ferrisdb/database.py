"""The face of an attached database: opening it, and what concerns the directory as a whole.

`Database` is the default key space (keyspace.py), where most of what its user calls is. What it is
to be attached lies in attached.py, reads and single writes in the kernel.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from ferrisdb import catalogue, statistics
from ferrisdb import checkpoint as checkpoints
from ferrisdb.attached import Attached
from ferrisdb.errors import NotADatabaseError, UsageError, WrongTypeError
from ferrisdb.kernel.ring import DURABILITIES
from ferrisdb.keys import DEFAULT_PREFIX, keyspace_prefix
from ferrisdb.keyspace import Keyspace

if TYPE_CHECKING:
    from ferrisdb.engine.report import Report


def open_database(
    path: str | os.PathLike[str],
    *,
    start: bool = True,
    timeout: float = 5.0,
    durability: str = "sync",
) -> Database:
    """Attach to the database in directory `path`.

    Shape:   start, whether to start a service in the background if none runs (and to make the
             directory a database if it is empty or absent); timeout, seconds that any wait of
             this handle may last; durability, default of its writes: "sync", "os" or "async".
    Raises:  NotADatabaseError, FormatTooNewError, AccessError, CorruptionError,
             SharedMemoryFullError, UnavailableError.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise WrongTypeError(f"path is a directory's name, not {type(path).__name__}")
    name = os.fspath(path)
    if not isinstance(name, str):
        raise WrongTypeError("path is text, not bytes: use os.fsdecode")
    if os.path.exists(name) and not os.path.isdir(name):
        raise NotADatabaseError(f"{name} is no directory: a database is one")
    if not isinstance(timeout, (int, float)) or not 0 < timeout < 1e6:
        raise UsageError(f"timeout is a number of seconds above 0, not {timeout!r}")
    if durability not in DURABILITIES:
        raise UsageError(f"durability is 'sync', 'os' or 'async', not {durability!r}")
    return Database(os.path.abspath(name), start=start, timeout=timeout, durability=durability)


class Database(Keyspace):
    """An open database: a mapping from bytes to bytes, ordered by key; its default key space.

    Thread-safe. Pickles as path and options, and attaches anew where it is unpickled. In a forked
    child it attaches anew at its first use there.
    """

    def __init__(self, path: str, *, start: bool, timeout: float, durability: str) -> None:
        """Attach; as `open_database`, whose checks have been made."""
        attached = Attached(path, start=start, timeout=timeout, durability=durability)
        super().__init__(attached, DEFAULT_PREFIX, 0, "")

    @property
    def path(self) -> str:
        """The directory's full name."""
        return self.attached.path

    # Key spaces

    def keyspace(self, name: str, *, create: bool = True) -> Keyspace:
        """Return the key space of that name, created if it isn't there.

        Shape:   name, 1 to 255 bytes of UTF-8; "" is the default key space, this database.
        Raises:  WrongTypeError, UsageError; KeyspaceDroppedError, it isn't there and `create` is
                 False; as `put`.
        Durable: yes, whatever the handle's default.
        """
        if name == "":
            return self
        number = catalogue.find(self.attached, name, create=create)
        return Keyspace(self.attached, keyspace_prefix(number), number, name)

    def keyspaces(self) -> list[str]:
        """Return the names of the key spaces, in order of their bytes, without the default one."""
        return catalogue.names(self.attached)

    def drop_keyspace(self, name: str) -> bool:
        """Remove a key space and all its keys, at the cost of one write; tell whether it was there.

        Its space on disk is reclaimed by compaction in the background, begun at once.
        Raises:  WrongTypeError, UsageError; as `put`.
        Durable: yes.
        """
        return catalogue.drop(self.attached, name)

    # The directory as a whole

    def stats(self) -> dict[str, Any]:
        """Return the figures of the database, its memory and its clients.

        Of each client, what it pins: `pinned_bytes` are those that would be freed without it, or
        without it and others that pin the same.
        """
        # Let go first: what asks is not to show among those that pin.
        with self.snapshot() as snap:
            version = snap.version
        return statistics.collect(self.attached, version)

    def verify(self) -> Report:
        """Check every checksum and every invariant of the database, while it is in use.

        Returns: what was found, damage included; nothing is raised for that.
        Raises:  UnavailableError, StorageError, FormatTooNewError: it could not be checked.
        Cost:    reads every file once, and holds a snapshot meanwhile.
        """
        # Imported here: who only reads and writes doesn't pay for the engine.
        from ferrisdb.verification import verify_attached

        return verify_attached(self)

    def compact(
        self, start: bytes | None = None, end: bytes | None = None, *, timeout: float | None = None
    ) -> None:
        """Merge what is stored of [start, end) into its lowest level; without bounds, all there is.

        Shape:   bounds are keys of the default key space, None is no bound; without any, other
                 key spaces are compacted, too; timeout, as `Keyspace.compact`.
        """
        if start is None and end is None:
            self.attached.compact(b"", None, timeout)
        else:
            super().compact(start, end, timeout=timeout)

    def checkpoint(
        self, directory: str | os.PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Make `directory` a copy of the database, which opens as one of its own.

        It holds one moment: everything acknowledged before the call, this process's asynchronous
        writes among it, and of what others write meanwhile whole batches, in order. Tables are
        linked, so it costs little space until the database has changed; on another file system
        they are copied. Settings (ferrisdb.toml) and users (users.toml) stay behind.

        Shape:   directory, absent or empty, its parent there; timeout, seconds to take at most,
                 None for as long as it takes.
        Raises:  UsageError, it exists and is not empty, or lies in the database; UnavailableError
                 at the time-out; StorageError (DiskFullError among them): nothing is there then.
        Durable: yes.
        Cost:    reads and writes what the memtables hold; readers and writers go on.
        """
        self.attached.enter_call()
        self.attached.drain()
        checkpoints.make_checkpoint(
            self.attached,
            directory,
            None if timeout is None else time.monotonic_ns() + int(timeout * 1e9),
        )

    # Closing

    def close(self) -> None:
        """Wait for asynchronous writes, then detach, key spaces and all; idempotent.

        Raises:  the error of an asynchronous write; the handle is closed nevertheless.
        """
        self.attached.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Database], tuple[object, ...]]:
        return _reopen, self.attached.options

    def __repr__(self) -> str:
        state = "closed " if self.attached.is_closed else ""
        return f"<{state}ferrisdb.Database {self.path!r}>"


def _reopen(path: str, start: bool, timeout: float, durability: str) -> Database:
    return open_database(path, start=start, timeout=timeout, durability=durability)
