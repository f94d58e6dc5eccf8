from typing import Protocol, final

from ferrisdb.kernel.properties import TableOrigin, TableProperties
from ferrisdb.kernel.source import Source
from ferrisdb.kernel.tombstones import RangeTombstones

class _Appendable(Protocol):
    def append(self, chunk: memoryview, /) -> object: ...

@final
class TableBuilder:
    exhausted: bool
    def __init__(
        self,
        file: _Appendable,
        *,
        file_number: int,
        database_id: bytes,
        created_us: int,
        gc_floor: int = 0,
        block_bytes: int = 4096,
        bottom: bool = False,
        origin: TableOrigin = ...,
        filtered: bool = False,
    ) -> None: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def entries(self) -> int: ...
    @property
    def quarter_expires_us(self) -> int: ...
    @property
    def next_key(self) -> bytes | None: ...
    @property
    def is_split(self) -> bool: ...
    def add(self, key: bytes, seq: int, kind: int, expires_us: int, value: bytes) -> None: ...
    def add_range_tombstone(self, start: bytes, end: bytes, seq: int) -> None: ...
    def build_from(
        self,
        source: Source,
        *,
        tombstones: RangeTombstones | None = None,
        expired_us: int = 0,
        bytes_max: int = 0,
        until: bytes | None = None,
        steps_max: int = 0,
    ) -> int: ...
    def finish(self) -> TableProperties: ...
