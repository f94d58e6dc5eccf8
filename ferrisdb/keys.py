"""Make stored keys of user keys: each key space has a prefix of its own.

The default key space's prefix is one zero byte, so that other key spaces, whose prefixes begin
with another byte, lie outside of its range and in an order of their own.
"""

from typing import Final

DEFAULT_PREFIX: Final = b"\x00"

KEYSPACE_TAG: Final = b"\x01"
"""Begins a named key space's prefix; its id follows, u32 big-endian."""

CATALOGUE_PREFIX: Final = b"\x02"
"""Prefix of the catalogue of key spaces (catalogue.py), which is data like any other."""

CATALOGUE_IDS: Final = CATALOGUE_PREFIX + b"i"
"""With an id behind it the catalogue's key that says that this key space lives."""

CURSORS_PREFIX: Final = b"\x03"
"""Prefix of what cursors of SCAN refer to (resp/cursors.py); it expires by itself."""


def keyspace_prefix(keyspace_id: int) -> bytes:
    """Return the prefix of a named key space."""
    return KEYSPACE_TAG + keyspace_id.to_bytes(4, "big")


def user_key(stored_key: bytes) -> bytes:
    """Return a stored key without its key space's prefix."""
    return stored_key[5 if stored_key.startswith(KEYSPACE_TAG) else 1 :]


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the first key behind all that begin with `prefix`; None if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
