"""A snapshot: the database as it was at one moment, readable until it is closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from ferrisdb.errors import ClosedError
from ferrisdb.kernel.client import Pin
from ferrisdb.kernel.rows import open_rows
from ferrisdb.shm.version_page import VersionPage

if TYPE_CHECKING:
    from ferrisdb.database import Database

_COUNT_ROWS = 65_536


class Snapshot:
    """A read-only view of one moment; a context manager. Thread-safe.

    It keeps the memory and the files of its moment from being freed: close it. One that is older
    than the service's `max_snapshot_age_s` is revoked, and reads of it raise SnapshotTooOldError.
    """

    __slots__ = ("_db", "_pin")

    def __init__(self, db: Database, pin: Pin) -> None:
        self._db = db
        self._pin: Pin | None = pin

    @property
    def seq(self) -> int:
        """The commit sequence number that it reads at."""
        return self._live().seq

    @property
    def version(self) -> VersionPage:
        """What memtables and tables it reads."""
        page: VersionPage = self._live().view.page
        return page

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return the value that the key had, or `default`."""
        return self._live().get(key, default)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values that the keys had, in their order, None where absent."""
        return self._live().multi_get(keys)

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
        """Return an iterator over the rows of that moment; as `Database.scan`."""
        return open_rows(self._db, self._live(), start, end, prefix, limit, reverse, keys_only)

    def __iter__(self) -> Iterator[bytes]:
        return self.scan(keys_only=True)

    def __len__(self) -> int:
        """Count the keys: O(n)."""
        rows: Any = self.scan(keys_only=True)
        count: int = rows.count_rest()
        return count

    def close(self) -> None:
        """Let the moment go; idempotent."""
        pin, self._pin = self._pin, None
        if pin is not None:
            pin.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _live(self) -> Pin:
        if self._pin is None:
            raise ClosedError("this snapshot is closed: take a new one")
        self._pin.verify()
        return self._pin
