"""No store at all: what the harness itself costs, which is the floor of every figure.

Nothing is kept, so that nothing that it answers is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ferrisdb.bench.engines.base import OS, Engine, Pairs


class Null(Engine):
    """Answers every call at once."""

    name = "null"
    title = "no store"
    setup = "nothing is kept: the floor that the harness sets"
    keeps = False
    lacks: ClassVar[Mapping[str, str]] = {
        "scan": "there are no rows",
        "transactions": "nothing is kept",
    }

    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        del folder, settings, durability
        nothing: dict[bytes, bytes] = {}
        self.get: Callable[[bytes], bytes | None] = nothing.get
        self.put: Callable[[bytes, bytes], Any] = nothing.get
        self.put_batch: Callable[[Pairs], Any] = len
        self.multi_get: Callable[[list[bytes]], Any] = len
        self.delete: Callable[[bytes], Any] = nothing.get

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return f"it is called, {durability!r} or not"

    @classmethod
    def version(cls) -> str:
        """Return nothing's version."""
        return "0"

    def close(self) -> None:
        """Let go of nothing."""
