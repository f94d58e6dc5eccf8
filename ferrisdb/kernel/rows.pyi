from collections.abc import Iterator
from typing import Any, Self, final

from ferrisdb.kernel.client import Attachment, Pin
from ferrisdb.kernel.merge import Scan

def bounds(
    owner: Attachment, start: object, end: object, prefix: object
) -> tuple[bytes, bytes | None]: ...
def open_rows(
    owner: Attachment,
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
    def __new__(cls, pin: Pin, scan: Scan, release: bool) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def count_rest(self) -> int: ...
    def close(self) -> None: ...
