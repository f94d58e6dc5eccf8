from collections.abc import Callable, Iterable
from typing import Any, Self, final

from ferrisdb.kernel.table import Table

@final
class TableRun:
    @property
    def count(self) -> int: ...
    @property
    def tables(self) -> list[Table | None]: ...
    def __new__(
        cls,
        refs: Iterable[Any],
        opener: Callable[[Any], Table] | None = None,
        tables: Iterable[Table | None] | None = None,
    ) -> Self: ...
    def table(self, index: int) -> Table: ...
