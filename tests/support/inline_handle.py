"""A handle of a database whose coordinator runs in the same thread, step by step."""

from __future__ import annotations

from ferrisdb.attached import Attached
from ferrisdb.database import Database
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.keyspace import Keyspace


class _Attached(Attached):
    def _await_served(self, deadline_ns: int) -> None:
        """Don't wait: the coordinator is run by the same thread."""


class InlineDatabase(Database):
    """As `Database`, but it does not wait for the coordinator to take it on."""

    def __init__(self, path: str, *, durability: str) -> None:
        attached = _Attached(path, start=False, timeout=5.0, durability=durability)
        Keyspace.__init__(self, attached, DEFAULT_PREFIX, 0, "")
