"""Encode what a client asks of the coordinator beside commits: a CONTROL request's operations.

In the client's ring (shm/client.py), a request of type REQUEST_CONTROL. Little-endian.

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | u8 | command | 1 compact a range |
| 1 | u8 | flags | bit 0: there is an end |
| 2 | u16 | zero | |
| 4 | u32 | start bytes | |
| 8 | u32 | end bytes | |
| 12 | | start, then end | stored keys |

The answer's sequence is a ticket: the range is compacted once the control page's word `compacted`
has reached it, in the same generation. A request without operations (one that was given up when
its coordinator died) asks for nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ferrisdb.errors import ProtocolError
from ferrisdb.limits import STORED_KEY_BYTES_MAX

_COMPACT: Final = 1
_HAS_END: Final = 1
_HEAD: Final = struct.Struct("<BBHII")
if _HEAD.size != 12:
    raise ImportError("the control request's layout and its struct differ")


@dataclass(frozen=True, slots=True)
class CompactRange:
    """Have [start, end) of the stored keys compacted; end None: no bound."""

    start: bytes
    end: bytes | None


def encode_control(request: CompactRange) -> bytes:
    """Return the operations of a control request."""
    end = request.end or b""
    flags = 0 if request.end is None else _HAS_END
    return _HEAD.pack(_COMPACT, flags, 0, len(request.start), len(end)) + request.start + end


def decode_control(ops: bytes) -> CompactRange | None:
    """Return what a copy of the operations asks for; None: nothing.

    Raises: ProtocolError.
    """
    if not ops:
        return None
    if len(ops) < _HEAD.size:
        raise ProtocolError(f"a control request of {len(ops)} bytes")
    command, flags, zero, start_bytes, end_bytes = _HEAD.unpack_from(ops)
    if command != _COMPACT or flags & ~_HAS_END or zero:
        raise ProtocolError(f"a control request {command} with flags {flags:#x}")
    if (
        max(start_bytes, end_bytes) > STORED_KEY_BYTES_MAX
        or len(ops) != _HEAD.size + start_bytes + end_bytes
    ):
        raise ProtocolError("a control request with keys of wrong lengths")
    middle = _HEAD.size + start_bytes
    return CompactRange(ops[_HEAD.size : middle], ops[middle:] if flags & _HAS_END else None)
