"""What a transaction has read, as the coordinator checks it (CHECK_* of layout.pxd)."""

from __future__ import annotations

from ferrisdb.kernel import layout


def key_check(stored_key: bytes) -> bytes:
    """Return the check that a stored key has not changed."""
    head = len(stored_key) | layout.CHECK_KEY << 24
    return head.to_bytes(4, "little") + stored_key


def range_check(first: bytes, last: bytes | None) -> bytes:
    """Return the check that nothing in [first, last) of stored keys has changed; None: no bound."""
    head = len(first) | layout.CHECK_RANGE << 24
    end = last or b""
    return head.to_bytes(4, "little") + len(end).to_bytes(4, "little") + first + end
