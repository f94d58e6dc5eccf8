"""What a data command works on: its arguments, and the keys of one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferrisdb.kernel.space import Space
    from ferrisdb.resp.session import Session
    from ferrisdb.transaction import Transaction, TransactionWriter


class Call:
    """One run of a data command. It may be run again from the start: it changes nothing else.

    Shape:   name, lower case; args, without the name, nor a subcommand's.
    """

    __slots__ = ("_tx", "args", "name", "session")

    def __init__(
        self, name: bytes, args: list[bytes], session: Session, transaction: Transaction
    ) -> None:
        self.name = name
        self.args = args
        self.session = session
        self._tx = transaction

    @property
    def now_us(self) -> int:
        """The moment at which all of it is read, µs since the epoch; expiries are judged by it."""
        return self._tx.pin().now_us

    def get(self, key: bytes) -> bytes | None:
        """Return the key's value, None if it is absent."""
        return self._tx.entry(key)[0]

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of keys, None where absent."""
        return self._tx.multi_get(keys)

    def entry(self, key: bytes) -> tuple[bytes | None, int]:
        """Return (value or None, expires_us); expires_us is 0 without an expiry."""
        return self._tx.entry(key)

    def put(self, key: bytes, value: bytes, expires_us: int = 0) -> None:
        """Set the key; expires_us, exact µs since the epoch, 0 none; a past one deletes the key."""
        self._tx.put_until(key, value, expires_us)

    def delete(self, key: bytes) -> None:
        """Remove the key; an absent one is no error, and nothing is read."""
        self._tx.delete(key)

    def delete_range(self, start: bytes | None, end: bytes | None) -> None:
        """Remove every key in [start, end); None is no bound."""
        self._tx.delete_range(start, end)

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
        """Return an iterator over (key, value), or keys; what is taken of it counts as read."""
        return self._tx.scan(
            start, end, prefix=prefix, limit=limit, reverse=reverse, keys_only=keys_only
        )

    def within(self, space: Space) -> TransactionWriter:
        """Return another key space within the same transaction."""
        return self._tx.keyspace(space)
