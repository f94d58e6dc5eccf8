from typing import Self, final

from ferrisdb.kernel.source import Source
from ferrisdb.kernel.table import Table

@final
class Level(Source):
    def __new__(
        cls, tables: list[Table], snapshot_seq: int, all_versions: bool = False
    ) -> Self: ...
