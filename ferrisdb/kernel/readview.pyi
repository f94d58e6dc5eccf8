from collections.abc import Callable
from typing import Any, Self

from ferrisdb.kernel.memtable import Memtable
from ferrisdb.kernel.run import TableRun
from ferrisdb.kernel.table import Table

class ReadView:
    @property
    def epoch(self) -> int: ...
    @property
    def page(self) -> Any: ...
    @property
    def memtables(self) -> list[Memtable]: ...
    @property
    def runs(self) -> list[TableRun]: ...
    def __new__(
        cls,
        epoch: int,
        page: Any,
        memtables: list[Memtable],
        opener: Callable[[Any], Table],
        tables: dict[int, Table] | None = None,
    ) -> Self: ...
    def refresh_ranges(self) -> None: ...
    def open_tables(self) -> list[Table]: ...
    def keys(
        self, first: bytes, last: bytes | None, snapshot_seq: int, now_us: int
    ) -> list[bytes]: ...
