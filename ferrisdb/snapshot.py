"""A snapshot: the database as it was at one moment, readable until it is closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from ferrisdb.errors import ClosedError, UsageError
from ferrisdb.kernel.client import Pin
from ferrisdb.kernel.rows import open_rows
from ferrisdb.shm.version_page import VersionPage

if TYPE_CHECKING:
    from ferrisdb.kernel.space import Space

_COUNT_ROWS = 65_536


class Snapshot:
    """A read-only view of one moment; a context manager. Thread-safe.

    It keeps the memory and the files of its moment from being freed: close it. One that is older
    than the service's `max_snapshot_age_s` is revoked, and reads of it raise SnapshotTooOldError.
    """

    __slots__ = ("_held", "_space")

    def __init__(self, space: Space, pin: Pin | _Held) -> None:
        self._space = space
        self._held = pin if isinstance(pin, _Held) else _Held(pin)

    def keyspace(self, other: Space) -> Snapshot:
        """Return another key space of the same database at the same moment.

        The two are closed together.
        Raises:  UsageError, it is of another database.
        """
        self._live()
        if other.attached is not self._space.attached:
            raise UsageError("a snapshot shows key spaces of one database handle only")
        return Snapshot(other, self._held)

    @property
    def seq(self) -> int:
        """The commit sequence number that it reads at."""
        return self._live().seq

    @property
    def version(self) -> VersionPage:
        """What memtables and tables it reads."""
        page: VersionPage = self._live().view.page
        return page

    def ttl(self, key: bytes) -> float | None:
        """Return how many seconds the key had to live, None if it has no expiry.

        Raises:  KeyError, it is absent.
        """
        pin = self._live()
        value, expires_us = self._space.entry_at(pin, key)
        if value is None:
            raise KeyError(key)
        return (expires_us - pin.now_us) / 1e6 if expires_us else None

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return the value that the key had, or `default`."""
        return self._space.get_at(self._live(), key, default)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values that the keys had, in their order, None where absent."""
        return self._space.multi_get_at(self._live(), keys)

    def __getitem__(self, key: bytes) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        found: bytes = value
        return found

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self.get(key) is not None

    def scan(
        self,
        start: bytes | None = None,
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Iterator[Any]:
        """Return an iterator over the rows of that moment; as `Keyspace.scan`."""
        return open_rows(self._space, self._live(), start, end, prefix, limit, reverse, keys_only)

    def __iter__(self) -> Iterator[bytes]:
        return self.scan(keys_only=True)

    def __len__(self) -> int:
        """Count the keys: O(n)."""
        rows: Any = self.scan(keys_only=True)
        count: int = rows.count_rest()
        return count

    def close(self) -> None:
        """Let the moment go; idempotent."""
        pin, self._held.pin = self._held.pin, None
        if pin is not None:
            pin.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _live(self) -> Pin:
        pin = self._held.pin
        if pin is None:
            raise ClosedError("this snapshot is closed: take a new one")
        pin.verify()
        return pin


class _Held:
    """The pin of a snapshot, which several key spaces may share."""

    __slots__ = ("pin",)

    def __init__(self, pin: Pin) -> None:
        self.pin: Pin | None = pin
