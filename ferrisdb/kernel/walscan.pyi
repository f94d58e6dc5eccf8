from array import array
from typing import Final

from typing_extensions import Buffer

REPAIR_ADVICE: Final[str]

class WalScan:
    @property
    def valid_end(self) -> int: ...
    @property
    def record_count(self) -> int: ...
    @property
    def next_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def time_us_max(self) -> int: ...
    @property
    def dropped_records(self) -> int: ...
    @property
    def dropped_bytes(self) -> int: ...
    @property
    def offsets(self) -> array[int]: ...

def scan(
    buffer: Buffer,
    salt: int,
    *,
    path: str,
    base_seq: int,
    first_offset: int = 128,
    synced_end: int = 0,
) -> WalScan: ...
def find_record(buffer: Buffer, salt: int, start: int) -> int: ...
def reseal(
    buffer: Buffer, start: int, end: int, offset: int, salt: int, synced_to: int
) -> bytes: ...
def outcomes(
    buffer: Buffer, offsets: Buffer
) -> tuple[dict[bytes, int], list[tuple[bytes, int, int, int, int, bytes]]]: ...
