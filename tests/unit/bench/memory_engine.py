"""An engine in memory, for tests, which can be told to answer wrongly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any

from ferrisdb.bench.engines import OS, Engine, Pairs


class Memory(Engine):
    """Rows in a dict."""

    name = "memory"
    title = "a dict"
    setup = "nothing lasts"

    def __init__(
        self, folder: str = "", settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        del folder, settings, durability
        self.rows: dict[bytes, bytes] = {}
        #: What becomes of a value on its way out.
        self.spoil: Callable[[bytes, bytes | None], bytes | None] = lambda key, value: value
        #: What becomes of rows on their way out.
        self.spoil_rows: Callable[[Pairs], Pairs] = lambda rows: rows
        self.loses_writes = False

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return f"it is in the dict, {durability}"

    def get(self, key: bytes) -> bytes | None:
        """Return a value."""
        return self.spoil(key, self.rows.get(key))

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row."""
        if not self.loses_writes:
            self.rows[key] = value

    def put_batch(self, rows: Pairs) -> None:
        """Write rows."""
        for key, value in rows:
            self.put(key, value)

    def delete(self, key: bytes) -> None:
        """Delete a row."""
        if not self.loses_writes:
            self.rows.pop(key, None)

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return rows."""
        keys = sorted(self.rows)
        at = bisect_left(keys, key)
        return self.spoil_rows([(each, self.rows[each]) for each in keys[at : at + count]])

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return all rows."""
        return self.spoil_rows(sorted(self.rows.items(), reverse=reverse))

    def replace(self, key: bytes, change: Callable[[bytes | None], bytes]) -> int:
        """Replace a value."""
        self.put(key, change(self.get(key)))
        return 1

    def close(self) -> None:
        """Let go of nothing."""
