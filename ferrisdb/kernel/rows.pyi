from collections.abc import Iterator
from typing import Any, Self, final

from ferrisdb.kernel.client import Pin
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

class RangedSpace(Space):
    def scan(
        self,
        start: bytes | None = None,
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Iterator[Any]: ...

@final
class Rows:
    @property
    def expiry_us(self) -> int: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def count_rest(self) -> int: ...
    def close(self) -> None: ...
