"""CRC-32C as everyone has it."""

from __future__ import annotations

import random

import pytest

from ferrisdb.kernel.checksum import crc32c


def test_known_values() -> None:
    # RFC 3720, appendix B.4.
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_continues_from_a_seed() -> None:
    content = bytes(range(100))
    for cut in range(101):
        assert crc32c(content[cut:], crc32c(memoryview(content)[:cut])) == crc32c(content)


@pytest.mark.parametrize("size", [4079, 4080, 4087, 4096, 8159, 8160, 8161, 50_000])
def test_long_buffers_have_the_checksum_of_their_parts(size: int) -> None:
    content = random.Random(size).randbytes(size)
    crc = 0
    for at in range(0, size, 1000):
        crc = crc32c(content[at : at + 1000], crc)
    assert crc32c(content) == crc
    assert crc32c(content, 7) == crc32c(content[100:], crc32c(content[:100], 7))
