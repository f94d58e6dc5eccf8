"""Keys and values of every row: 16 bytes, 100 bytes, the same for each engine.

Key number n is 16 hex digits of a mix of n, so numbers in a row are distinct keys in random order.
Values compress by half, as db_bench's do: 50 random bytes, twice; or not at all.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Final

import numpy as np

from ferrisdb.bench.rewriting import keys_of as keys_of_numbers

VALUE_BYTES: Final = 100
ENTRY_BYTES: Final = 16 + VALUE_BYTES
#: As many different values as there are in 400 kB, so that no block of a table has one twice.
VALUE_COUNT: Final = 4096

Pair = tuple[bytes, bytes]


def keys_from(first: int, count: int) -> list[bytes]:
    """Return the keys of `count` numbers from `first` on."""
    return keys_of_numbers(np.arange(first, first + count, dtype=np.uint64))


@cache
def values(*, compressible: bool = True) -> tuple[bytes, ...]:
    """Return the different values, in the order in which keys have them."""
    rng = random.Random(20_240_229)
    if compressible:
        return tuple(rng.randbytes(VALUE_BYTES // 2) * 2 for _ in range(VALUE_COUNT))
    return tuple(rng.randbytes(VALUE_BYTES) for _ in range(VALUE_COUNT))


def value_of(number: int, *, compressible: bool = True) -> bytes:
    """Return the value of a key's number."""
    return values(compressible=compressible)[number % VALUE_COUNT]


def pairs_of(first: int, keys: list[bytes], *, compressible: bool = True) -> list[Pair]:
    """Return keys with their values; `first` is the number of the first one."""
    known = values(compressible=compressible)
    return [(key, known[number % VALUE_COUNT]) for number, key in enumerate(keys, first)]
