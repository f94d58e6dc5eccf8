"""Encode atomic operations as a ring holds them, and what they must come to: a plain oracle."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ferrisdb.kernel.atomics import Atomic, AtomicFlag

REQUEST_ATOMIC_OP = 0x50

#: What a key holds: (value, absolute expiry in µs or 0), or None.
Entry = tuple[bytes, int] | None


@dataclass(frozen=True, slots=True)
class AtomicOperation:
    """One atomic operation; `hint` None: it carries none, else (entry,)."""

    operation: Atomic
    key: bytes
    operand: bytes = b""
    expected: bytes = b""
    flags: int = 0
    expires_us: int = 0
    hint: tuple[Entry] | None = None

    def encode(self) -> bytes:
        """Return its bytes in a ring."""
        flags, hint, hint_expires_us = int(self.flags), b"", 0
        if self.hint is not None:
            entry = self.hint[0]
            flags |= AtomicFlag.ATOMIC_HINT_ABSENT if entry is None else AtomicFlag.ATOMIC_HINT
            hint, hint_expires_us = entry or (b"", 0)
        payload = self.operand + self.expected + hint
        return (
            struct.pack(
                "<IIBBHIIIQQ",
                len(self.key) | REQUEST_ATOMIC_OP << 24,
                len(payload),
                self.operation,
                0,
                flags,
                len(self.operand),
                len(self.expected),
                0,
                self.expires_us,
                hint_expires_us,
            )
            + self.key
            + payload
        )


class Refused(Exception):
    """The operation fails with this wire code."""


NOT_AN_INTEGER = 70
INTEGER_OVERFLOW = 71


def outcome(op: AtomicOperation, held: Entry, time_us: int) -> tuple[bool, Entry]:
    """Return (whether it writes, what the key holds afterwards).

    Raises: Refused.
    """
    if held is not None and held[1] and held[1] <= time_us:
        held = None
    expires = op.expires_us + (time_us if op.flags & AtomicFlag.ATOMIC_RELATIVE else 0)
    kept = held[1] if held else 0
    value = held[0] if held else None
    match op.operation:
        case Atomic.ATOMIC_ADD:
            total = _integer(value, 64) + _integer(op.operand, 64)
            if not -(1 << 63) <= total < 1 << 63:
                raise Refused(INTEGER_OVERFLOW)
            return True, (b"%d" % total, kept)
        case Atomic.ATOMIC_ADD_WIDE:
            return True, (b"%d" % (_integer(value, 0) + _integer(op.operand, 0)), kept)
        case Atomic.ATOMIC_APPEND:
            return True, ((value or b"") + op.operand, kept)
        case Atomic.ATOMIC_MINIMUM:
            return (
                (True, (op.operand, kept))
                if value is None or op.operand < value
                else (
                    False,
                    held,
                )
            )
        case Atomic.ATOMIC_MAXIMUM:
            return (
                (True, (op.operand, kept))
                if value is None or op.operand > value
                else (
                    False,
                    held,
                )
            )
        case Atomic.ATOMIC_AND | Atomic.ATOMIC_OR | Atomic.ATOMIC_XOR:
            return True, (_combined(op.operation, value or b"", op.operand), kept)
        case Atomic.ATOMIC_EXPIRE:
            return _expired(op, held, expires, time_us)
    if not _conditions_hold(op, value):
        return False, held
    if op.operation is Atomic.ATOMIC_REMOVE:
        return held is not None, None
    return True, (op.operand, kept if op.flags & AtomicFlag.ATOMIC_KEEP_TTL else expires)


def _integer(text: bytes | None, bits: int) -> int:
    if text is None:
        return 0
    try:
        number = int(text)
    except ValueError:
        raise Refused(NOT_AN_INTEGER) from None
    if b"%d" % number != text or (bits and not -(1 << 63) <= number < 1 << 63):
        raise Refused(NOT_AN_INTEGER)
    return number


def _combined(operation: Atomic, a: bytes, b: bytes) -> bytes:
    width = max(len(a), len(b))
    pairs = zip(a.ljust(width, b"\0"), b.ljust(width, b"\0"), strict=True)
    match operation:
        case Atomic.ATOMIC_AND:
            return bytes(x & y for x, y in pairs)
        case Atomic.ATOMIC_OR:
            return bytes(x | y for x, y in pairs)
        case _:
            return bytes(x ^ y for x, y in pairs)


def _conditions_hold(op: AtomicOperation, value: bytes | None) -> bool:
    if op.flags & AtomicFlag.ATOMIC_IF_ABSENT and value is not None:
        return False
    if op.flags & AtomicFlag.ATOMIC_IF_PRESENT and value is None:
        return False
    return not op.flags & AtomicFlag.ATOMIC_IF_EQUAL or value == op.expected


def _expired(op: AtomicOperation, held: Entry, expires: int, time_us: int) -> tuple[bool, Entry]:
    if held is None:
        return False, None
    never = 1 << 65
    before, after = held[1] or never, expires or never
    refused = (
        (op.flags & AtomicFlag.ATOMIC_IF_ABSENT and held[1])
        or (op.flags & AtomicFlag.ATOMIC_IF_PRESENT and not held[1])
        or (op.flags & AtomicFlag.ATOMIC_IF_LATER and after <= before)
        or (op.flags & AtomicFlag.ATOMIC_IF_EARLIER and after >= before)
        or (not expires and not held[1])
    )
    if refused:
        return False, held
    return True, None if expires and expires <= time_us else (held[0], expires)
