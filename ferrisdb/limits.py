"""State every bound that reaches a caller, a file or shared memory, in one place.

Anything that checks a size imports it from here, so that a limit is one number in the
code, the documents and the error text.
"""

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

KEY_BYTES_MAX: Final = 65_535
"""Longest user key; the empty key is allowed."""

KEYSPACE_PREFIX_BYTES_MAX: Final = 5
"""Longest key space prefix put before a user key (see keys.py)."""

KEYSPACE_NAME_BYTES_MAX: Final = 255
"""Longest name of a key space, in UTF-8."""

STORED_KEY_BYTES_MAX: Final = KEY_BYTES_MAX + KEYSPACE_PREFIX_BYTES_MAX
"""Longest key as memtables, WAL files and tables hold it; fits in 24 bits."""

VALUE_BYTES_MAX: Final = 16 * MIB

SEQNO_MAX: Final = (1 << 56) - 1
"""Highest commit sequence number; 2,000 years at a million commits a second."""

MEMTABLE_BYTES_DEFAULT: Final = 64 * MIB
MEMTABLE_BYTES_MIN: Final = 256 * KIB
MEMTABLE_BYTES_MAX: Final = 1 << 31

RING_BYTES: Final = 512 * KIB
"""Size of a client's request ring; a larger batch travels in a segment of its own."""

COMPLETION_COUNT: Final = 256
"""Unanswered requests one client may have."""

SLOT_COUNT: Final = 256
"""Pins (snapshots, scans, the read in progress) one client may hold."""

CLIENT_COUNT_MAX: Final = 4096
"""Attached processes (handles) of one directory."""

REPLY_BYTES_MAX: Final = 32
"""Longest reply that a completion carries inside itself."""
