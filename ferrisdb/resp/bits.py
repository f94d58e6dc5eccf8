"""Commands on single bits: SETBIT, GETBIT, BITCOUNT, BITPOS. Bit 0 is the highest of byte 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferrisdb.limits import VALUE_BYTES_MAX
from ferrisdb.resp.arguments import integer, option
from ferrisdb.resp.command import SYNTAX_ERROR, CommandError, data
from ferrisdb.resp.replies import Reply

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call

_BAD_OFFSET = b"ERR bit offset is not an integer or out of range"
_BAD_BIT = b"ERR bit is not an integer or out of range"


def _offset(word: bytes) -> int:
    offset = integer(word, _BAD_OFFSET)
    if not 0 <= offset < 8 * VALUE_BYTES_MAX:
        raise CommandError(_BAD_OFFSET)
    return offset


def _counts_bits(word: bytes) -> bool:
    unit = option(word)
    if unit not in (b"bit", b"byte"):
        raise CommandError(SYNTAX_ERROR)
    return unit == b"bit"


def _within(start: int, end: int, length: int) -> tuple[int, int]:
    """Return a range, both ends included, with its indexes counted from the value's begin."""
    start = max(start + length, 0) if start < 0 else start
    end = max(end + length, 0) if end < 0 else end
    return start, min(end, length - 1)


@data("setbit", 4, "write denyoom")
def setbit(call: Call) -> Reply:
    """Set one bit; return what it was."""
    key = call.args[0]
    offset, bit = _offset(call.args[1]), integer(call.args[2], _BAD_BIT)
    if bit not in (0, 1):
        raise CommandError(_BAD_BIT)
    held, until_us = call.entry(key)
    place, mask = offset >> 3, 0x80 >> (offset & 7)
    value = held or b""
    byte = value[place] if place < len(value) else 0
    was = 1 if byte & mask else 0
    if was != bit or place >= len(value):
        byte = byte | mask if bit else byte & ~mask
        whole = (value[:place].ljust(place, b"\0"), bytes((byte,)), value[place + 1 :])
        call.put(key, b"".join(whole), until_us)
    return was


@data("getbit", 3, "readonly fast")
def getbit(call: Call) -> Reply:
    """Return one bit."""
    offset = _offset(call.args[1])
    value = call.get(call.args[0])
    if value is None or offset >> 3 >= len(value):
        return 0
    return value[offset >> 3] >> (7 - (offset & 7)) & 1


@data("bitcount", -2, "readonly")
def bitcount(call: Call) -> Reply:
    """Count the bits that are set, of all the value or of a range."""
    args = call.args
    value = call.get(args[0])
    if value is None:
        return 0
    if len(args) == 1:
        return int.from_bytes(value, "big").bit_count()
    if len(args) not in (3, 4):
        raise CommandError(SYNTAX_ERROR)
    start, end = integer(args[1]), integer(args[2])
    if start < 0 and end < 0 and start > end:
        return 0
    of_bits = len(args) == 4 and _counts_bits(args[3])
    start, end = _within(start, end, 8 * len(value) if of_bits else len(value))
    if start > end:
        return 0
    if not of_bits:
        start, end = 8 * start, 8 * end + 7
    return _cut(value, start, end).bit_count()


def _cut(value: bytes, start: int, end: int) -> int:
    """Return the bits start to end, that one included, as a number."""
    number = int.from_bytes(value[start >> 3 : (end >> 3) + 1], "big") >> (7 - (end & 7))
    return number & ((1 << end - start + 1) - 1)


@data("bitpos", -3, "readonly")
def bitpos(call: Call) -> Reply:
    """Return where the first bit of a kind is, in all the value or in a range."""
    args = call.args
    bit = integer(args[1])
    if bit not in (0, 1):
        raise CommandError(b"ERR The bit argument must be 1 or 0.")
    value = call.get(args[0])
    if value is None:
        return -1 if bit else 0
    if len(args) > 5:
        raise CommandError(SYNTAX_ERROR)
    start, end, of_bits = 0, len(value) - 1, False
    if len(args) > 2:
        start = integer(args[2])
        of_bits = len(args) == 5 and _counts_bits(args[4])
        if len(args) > 3:
            end = integer(args[3])
        start, end = _within(start, end, 8 * len(value) if of_bits else len(value))
    if start > end:
        return -1
    if not of_bits:
        start, end = 8 * start, 8 * end + 7
    count = end - start + 1
    number = _cut(value, start, end)
    if not bit:
        number ^= (1 << count) - 1
    if number:
        return start + count - number.bit_length()
    # Without an end the value goes on with zeros.
    return end + 1 if not bit and len(args) < 4 else -1
