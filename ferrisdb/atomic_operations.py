"""What atomic operations there are, and what each is called with: one place for all who offer them.

A key space has one done at once and answers with its result; a batch and a transaction collect
them as writes that do not read. The coordinator evaluates them in commit order
(kernel/atomics.pxd), so none of them ever conflicts.
"""

from __future__ import annotations

from typing import NamedTuple

from ferrisdb.errors import UsageError, WrongTypeError
from ferrisdb.kernel.atomics import Atomic, AtomicFlag
from ferrisdb.kernel.batch import moment_us, ttl_us


class AtomicRequest(NamedTuple):
    """An atomic operation but for its key: the arguments of `Space.atomic`."""

    operation: int
    operand: bytes = b""
    expected: bytes = b""
    flags: int = 0
    expires_us: int = 0


def _value(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise WrongTypeError(f"a value is bytes, not {type(value).__name__}: encode it first")
    return bytes(value)


def add(delta: int, wide: bool) -> AtomicRequest:
    """Return an addition to an integer in ASCII decimal; 64 bits signed unless `wide`."""
    if not isinstance(delta, int):
        raise WrongTypeError(f"delta is a whole number, not {type(delta).__name__}")
    if not wide and not -(1 << 63) <= delta < 1 << 63:
        raise UsageError(f"delta={delta} does not fit 64 bits: say wide=True")
    return AtomicRequest(Atomic.ATOMIC_ADD_WIDE if wide else Atomic.ATOMIC_ADD, b"%d" % delta)


def combine(operation: Atomic, value: bytes) -> AtomicRequest:
    """Return an operation of the held value with another one, and nothing else."""
    return AtomicRequest(operation, _value(value))


def compare_and_set(old: bytes | None, new: bytes | None) -> AtomicRequest:
    """Return a replacement of `old` by `new`, None being absence. An expiry is kept."""
    if old is None:
        if new is None:
            raise UsageError("compare_and_set(key, None, None) would change nothing: use `in`")
        return AtomicRequest(Atomic.ATOMIC_SET, _value(new), flags=AtomicFlag.ATOMIC_IF_ABSENT)
    if new is None:
        return AtomicRequest(
            Atomic.ATOMIC_REMOVE, b"", _value(old), flags=AtomicFlag.ATOMIC_IF_EQUAL
        )
    return AtomicRequest(
        Atomic.ATOMIC_SET,
        _value(new),
        _value(old),
        flags=AtomicFlag.ATOMIC_IF_EQUAL | AtomicFlag.ATOMIC_KEEP_TTL,
    )


def set_if_absent(
    value: bytes, ttl: float | None = None, expires_at: float | None = None
) -> AtomicRequest:
    """Return a put on the condition that the key is absent."""
    flags, expires_us = AtomicFlag.ATOMIC_IF_ABSENT, 0
    if ttl is not None or expires_at is not None:
        relative, expires_us = _moment(ttl, expires_at)
        flags |= relative
    return AtomicRequest(Atomic.ATOMIC_SET, _value(value), flags=flags, expires_us=expires_us)


def expire(seconds: float | None, at: float | None) -> AtomicRequest:
    """Return a change of a key's expiry, which leaves its value."""
    flags, expires_us = _moment(seconds, at)
    return AtomicRequest(Atomic.ATOMIC_EXPIRE, flags=flags, expires_us=expires_us)


def persist() -> AtomicRequest:
    """Return the removal of a key's expiry."""
    return AtomicRequest(Atomic.ATOMIC_EXPIRE)


def _moment(seconds: float | None, at: float | None) -> tuple[AtomicFlag, int]:
    if (seconds is None) == (at is None):
        raise UsageError("say seconds from the commit, or a moment since the epoch: one of both")
    if at is not None:
        return AtomicFlag(0), moment_us(at)
    return AtomicFlag.ATOMIC_RELATIVE, ttl_us(seconds)


class AtomicWrites:
    """Atomic operations as writes of a batch or transaction: done at its commit, not answered."""

    __slots__ = ()

    def _atomic(self, key: bytes, request: AtomicRequest) -> None:
        raise NotImplementedError

    def add(self, key: bytes, delta: int = 1, *, wide: bool = False) -> None:
        """Add an integer; as `Keyspace.add`."""
        self._atomic(key, add(delta, wide))

    def append(self, key: bytes, value: bytes) -> None:
        """Append to the value; as `Keyspace.append`."""
        self._atomic(key, combine(Atomic.ATOMIC_APPEND, value))

    def minimum(self, key: bytes, value: bytes) -> None:
        """Keep the lesser value; as `Keyspace.minimum`."""
        self._atomic(key, combine(Atomic.ATOMIC_MINIMUM, value))

    def maximum(self, key: bytes, value: bytes) -> None:
        """Keep the greater value; as `Keyspace.maximum`."""
        self._atomic(key, combine(Atomic.ATOMIC_MAXIMUM, value))

    def bit_and(self, key: bytes, mask: bytes) -> None:
        """Combine bit by bit; as `Keyspace.bit_and`."""
        self._atomic(key, combine(Atomic.ATOMIC_AND, mask))

    def bit_or(self, key: bytes, mask: bytes) -> None:
        """Combine bit by bit; as `Keyspace.bit_or`."""
        self._atomic(key, combine(Atomic.ATOMIC_OR, mask))

    def bit_xor(self, key: bytes, mask: bytes) -> None:
        """Combine bit by bit; as `Keyspace.bit_xor`."""
        self._atomic(key, combine(Atomic.ATOMIC_XOR, mask))

    def compare_and_set(self, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """Replace the value if it is `old`; as `Keyspace.compare_and_set`."""
        self._atomic(key, compare_and_set(old, new))

    def set_if_absent(
        self,
        key: bytes,
        value: bytes,
        *,
        ttl: float | None = None,
        expires_at: float | None = None,
    ) -> None:
        """Set the key if it is absent; as `Keyspace.set_if_absent`."""
        self._atomic(key, set_if_absent(value, ttl, expires_at))

    def expire(self, key: bytes, seconds: float | None = None, *, at: float | None = None) -> None:
        """Change the key's expiry; as `Keyspace.expire`."""
        self._atomic(key, expire(seconds, at))

    def persist(self, key: bytes) -> None:
        """Take the key's expiry away; as `Keyspace.persist`."""
        self._atomic(key, persist())
