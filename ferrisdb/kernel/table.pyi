import os
from typing import final

from ferrisdb.kernel.properties import TableProperties
from ferrisdb.kernel.source import Source
from ferrisdb.kernel.tablefile import TableFile
from ferrisdb.kernel.tombstones import RangeTombstones

@final
class Table(TableFile):
    min_seq: int
    max_seq: int
    file_number: int
    has_tombstones: bool
    properties: TableProperties
    def __init__(
        self,
        file: int | str | bytes | os.PathLike[str],
        *,
        path: str | os.PathLike[str] | None = None,
        file_number: int | None = None,
    ) -> None: ...
    def get(self, key: bytes, snapshot_seq: int) -> tuple[int, int, int, bytes] | None: ...
    def range_tombstones(self) -> RangeTombstones: ...
    def source(self, snapshot_seq: int, all_versions: bool = False) -> TableSource: ...
    def verify(self) -> None: ...
    def close(self) -> None: ...

@final
class TableSource(Source): ...
