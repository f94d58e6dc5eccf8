"""A watched key: what it was when WATCH named it, and whether it has changed since.

A watch holds no pin. It keeps the sequence at which it looked and a digest of what it saw; a key
has changed if a memtable has a version of it above that sequence, or if it reads otherwise. Where
the memtables no longer reach back so far, what it reads decides alone.

A delete of a range counts only if it took the key away, as FLUSHALL does in Redis.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service
    from ferrisdb.transaction import Transaction

_DIGEST_BYTES = 16


def _digest(value: bytes | None) -> bytes | None:
    if value is None or len(value) <= _DIGEST_BYTES:
        return value
    # Longer than any value that stands for itself.
    return b"\0" + hashlib.blake2b(value, digest_size=_DIGEST_BYTES).digest()


class Watch(NamedTuple):
    """What one key was at a sequence."""

    seq: int
    digest: bytes | None
    expires_us: int

    def has_changed(self, tx: Transaction, key: bytes) -> bool:
        """Tell whether the key has changed until a transaction's moment; counts as a read of it."""
        value, expires_us = tx.entry(key)
        if expires_us != self.expires_us or _digest(value) != self.digest:
            return True
        return tx.newest_seq(key) > self.seq


def look(service: Service, keys: list[bytes]) -> dict[bytes, Watch]:
    """Return watches of keys as they are now, all of one moment.

    Raises:  one of our errors.
    """
    pin = service.attached.take_pin()
    try:
        seen = {}
        for key in keys:
            value, expires_us = service.space.entry_at(pin, key)
            seen[key] = Watch(pin.seq, _digest(value), expires_us)
        return seen
    finally:
        pin.release()
