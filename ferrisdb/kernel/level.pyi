from typing import Self, final

from ferrisdb.kernel.run import TableRun
from ferrisdb.kernel.source import Source

@final
class Level(Source):
    def __new__(cls, run: TableRun, snapshot_seq: int, all_versions: bool = False) -> Self: ...
