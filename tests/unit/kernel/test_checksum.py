"""CRC-32C as everyone has it."""

from __future__ import annotations

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
