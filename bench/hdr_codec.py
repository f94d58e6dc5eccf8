"""Encode a histogram as HdrHistogram's V2 compressed text, and decode such text.

The text is Base64 of this, big-endian:

| bytes | field | |
| --- | --- | --- |
| 4 | cookie | 0x1c849314 |
| 4 | length | of all that follows |
| | payload | compressed by zlib |

and the payload is

| bytes | field | |
| --- | --- | --- |
| 4 | cookie | 0x1c849313 |
| 4 | length | of the counts, in bytes |
| 4 | normalizing offset | 0 |
| 4 | significant digits | 3 |
| 8 | lowest value | 1 |
| 8 | highest value | `histogram.NS_MAX` |
| 8 | conversion ratio | 1.0, a float |
| | counts | of all buckets from the first to the last that isn't empty |

A count is a ZigZag LEB128 number; a negative one stands for so many empty buckets. All buckets of
ours have 56 bits at most, so the ninth byte, which is special in that format, is never needed.

Source: the format of HdrHistogram 2.1 (public domain), as its Java library describes it.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from typing import Final

from ferrisdb.bench.histogram import BUCKET_COUNT, DIGITS, NS_MAX, Histogram

COOKIE: Final = 0x1C849313
COMPRESSED_COOKIE: Final = 0x1C849314
OUTER: Final = struct.Struct(">II")
INNER: Final = struct.Struct(">IIIIqqd")
PAYLOAD_BYTES_MAX: Final = INNER.size + 9 * BUCKET_COUNT
assert (OUTER.size, INNER.size) == (8, 40)


class HdrFormatError(ValueError):
    """The text is no histogram of the kind that we write."""


def encode(histogram: Histogram) -> str:
    """Return a histogram's text."""
    counts = _encode_counts(histogram)
    payload = INNER.pack(COOKIE, len(counts), 0, DIGITS, 1, NS_MAX, 1.0) + counts
    packed = zlib.compress(payload)
    return base64.b64encode(OUTER.pack(COMPRESSED_COOKIE, len(packed)) + packed).decode("ascii")


def decode(text: str) -> Histogram:
    """Return the histogram that a text of the same layout holds.

    Raises:  HdrFormatError, it is damaged, or its buckets are others than ours.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HdrFormatError(f"no Base64: {error}") from None
    if len(raw) < OUTER.size:
        raise HdrFormatError("cut off in its header")
    cookie, length = OUTER.unpack_from(raw)
    if cookie != COMPRESSED_COOKIE:
        raise HdrFormatError(f"cookie {cookie:#x}, where {COMPRESSED_COOKIE:#x} was expected")
    if length != len(raw) - OUTER.size:
        raise HdrFormatError(f"{len(raw) - OUTER.size} bytes, where {length} were expected")
    payload = _inflate(raw[OUTER.size :])
    cookie, length, offset, digits, lowest, highest, _ratio = INNER.unpack_from(payload)
    if (cookie, offset, digits, lowest, highest) != (COOKIE, 0, DIGITS, 1, NS_MAX):
        raise HdrFormatError(
            f"a histogram of {lowest} to {highest} with {digits} digits (cookie {cookie:#x}); "
            f"only those of 1 to {NS_MAX} with {DIGITS} digits can be read"
        )
    if length != len(payload) - INNER.size:
        raise HdrFormatError(f"{len(payload) - INNER.size} bytes of counts, not {length}")
    return _decode_counts(payload[INNER.size :])


def _inflate(packed: bytes) -> bytes:
    inflating = zlib.decompressobj()
    try:
        # Bounded: a file of a few bytes must not fill the memory.
        payload = inflating.decompress(packed, PAYLOAD_BYTES_MAX)
    except zlib.error as error:
        raise HdrFormatError(str(error)) from None
    if not inflating.eof or inflating.unused_data or len(payload) < INNER.size:
        raise HdrFormatError("cut off, or longer than it may be")
    return payload


def _encode_counts(histogram: Histogram) -> bytes:
    made = bytearray()
    following = 0
    for index, count in zip(*(part.tolist() for part in histogram.buckets()), strict=True):
        empty = index - following
        if empty:
            # One empty bucket is written as a count of 0, as others do.
            _append_number(made, 0 if empty == 1 else -empty)
        _append_number(made, count)
        following = index + 1
    return bytes(made)


def _append_number(made: bytearray, number: int) -> None:
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    assert rest < 1 << 56, number
    while rest > 0x7F:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    made.append(rest)


def _decode_counts(raw: bytes) -> Histogram:
    indexes, counts = [], []
    at = number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift > 49:
                raise HdrFormatError("a count of more than 56 bits")
            continue
        value = number >> 1 if number & 1 == 0 else -((number + 1) >> 1)
        if value > 0:
            indexes.append(at)
            counts.append(value)
        at += -value if value < 0 else 1
        if at > BUCKET_COUNT:
            raise HdrFormatError(f"more than {BUCKET_COUNT} buckets")
        number = shift = 0
    if shift:
        raise HdrFormatError("cut off within a count")
    return Histogram.of_buckets(indexes, counts)
