from collections.abc import Iterator
from typing import Any, Self, final

from ferrisdb.kernel.client import Pin
from ferrisdb.kernel.merge import Scan
from ferrisdb.kernel.space import Space

def bounds(
    owner: Space, start: object, end: object, prefix: object
) -> tuple[bytes, bytes | None]: ...
def open_rows(
    owner: Space,
    pin: Pin | None,
    start: bytes | None,
    end: bytes | None,
    prefix: bytes | None,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
) -> Iterator[Any]: ...

@final
class Rows:
    @property
    def expiry_us(self) -> int: ...
    def __new__(cls, pin: Pin, scan: Scan, release: bool) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def count_rest(self) -> int: ...
    def close(self) -> None: ...
