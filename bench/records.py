"""Keys from numbers, and values that prove themselves.

Key number n is 16 hex digits of a mix of n, so that keys come in random order; a sequential key is
the digits of n itself. A value is its key, a version and bytes that follow from both, so that
whoever reads it can tell whether somebody has written exactly that. Values compress to about half,
as those of db_bench do, or not at all, as YCSB's.

    0   16  key
    16   8  version, big-endian: 0 for what was loaded
    24   *  bytes of a pool, from an offset that is the CRC-32 of the 24 before
"""

from __future__ import annotations

import random
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from ferrisdb.bench.rewriting import KEY_BYTES, digits_of, keys_of

Numbers = npt.NDArray[np.uint64]

HEAD_BYTES: Final = KEY_BYTES + 8
VALUE_BYTES_MIN: Final = 32
VALUE_BYTES_MAX: Final = 1 << 20
ABSENT: Final = 1 << 40
"""Numbers from here on are never written."""
_OFFSETS: Final = 1 << 16
_PIECE_BYTES: Final = 50

__all__ = [
    "ABSENT",
    "HEAD_BYTES",
    "KEY_BYTES",
    "VALUE_BYTES_MAX",
    "VALUE_BYTES_MIN",
    "Numbers",
    "Records",
    "digits_of",
    "keys_of",
]


class Records:
    """Makes and checks values of one length."""

    def __init__(self, value_bytes: int, *, compressible: bool = True) -> None:
        if not VALUE_BYTES_MIN <= value_bytes <= VALUE_BYTES_MAX:
            raise ValueError(f"a value has {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX} bytes")
        self.value_bytes = value_bytes
        self._rest_bytes = value_bytes - HEAD_BYTES
        self._pool = _pool(_OFFSETS + self._rest_bytes, 2 if compressible else 1)

    def value(self, key: bytes, version: int) -> bytes:
        """Return the value that this version of a key has."""
        head = key + version.to_bytes(8, "big")
        at = zlib.crc32(head) & (_OFFSETS - 1)
        return head + self._pool[at : at + self._rest_bytes]

    def version(self, key: bytes, value: bytes) -> int | None:
        """Return the version that a value is; None: nobody wrote it for this key."""
        head = value[:HEAD_BYTES]
        at = zlib.crc32(head) & (_OFFSETS - 1)
        if head[:KEY_BYTES] != key or value[HEAD_BYTES:] != self._pool[at : at + self._rest_bytes]:
            return None
        return int.from_bytes(head[KEY_BYTES:], "big")


def _pool(count: int, times: int) -> bytes:
    # The same in every process. A piece that comes twice is what makes it compress.
    rng = random.Random(1)
    pieces = []
    for _ in range(count // (times * _PIECE_BYTES) + 1):
        pieces += [rng.randbytes(_PIECE_BYTES)] * times
    return b"".join(pieces)[:count]
