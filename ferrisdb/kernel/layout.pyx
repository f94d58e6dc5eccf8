# cython: language_level=3, boundscheck=False, wraparound=False
"""Show the offsets of layout.pxd to Python, and give Python ordered access to shared words.

Every accessor takes a buffer (a memory map) and an offset in bytes; it checks bounds and
alignment and raises ValueError. The orders are in the names; see cpu.h.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

from ferrisdb.kernel cimport cpu
from ferrisdb.kernel cimport layout as c


cdef uint8_t *_word(const uint8_t[::1] buffer, Py_ssize_t offset, Py_ssize_t width) except NULL:
    if offset < 0 or offset + width > buffer.shape[0] or offset % width:
        raise ValueError(f"no {width}-byte word at byte {offset} of {buffer.shape[0]}")
    return <uint8_t *>&buffer[offset]


def load64(const uint8_t[::1] buffer not None, Py_ssize_t offset):
    """Load a u64 with acquire order."""
    return cpu.load64_acquire(_word(buffer, offset, 8))


def load32(const uint8_t[::1] buffer not None, Py_ssize_t offset):
    """Load a u32 with acquire order."""
    return cpu.load32_acquire(_word(buffer, offset, 4))


def store64(uint8_t[::1] buffer not None, Py_ssize_t offset, uint64_t value):
    """Store a u64 with release order."""
    cpu.store64_release(_word(buffer, offset, 8), value)


def store32(uint8_t[::1] buffer not None, Py_ssize_t offset, uint32_t value):
    """Store a u32 with release order."""
    cpu.store32_release(_word(buffer, offset, 4), value)


def add32(uint8_t[::1] buffer not None, Py_ssize_t offset, uint32_t value):
    """Add to a u32, sequentially consistent; return the former value."""
    return cpu.add32(_word(buffer, offset, 4), value)


def fence_full():
    """Order every load and store before against every one after."""
    cpu.fence_full()


def futex_wait(const uint8_t[::1] buffer not None, Py_ssize_t offset, uint32_t expected, int64_t timeout_ns):
    """Sleep while the u32 equals `expected`, at most `timeout_ns` (monotonic); may return early."""
    cdef uint8_t *word = _word(buffer, offset, 4)
    with nogil:
        cpu.futex_wait(word, expected, timeout_ns)


def futex_wake(const uint8_t[::1] buffer not None, Py_ssize_t offset, int count):
    """Wake up to `count` sleepers on the u32."""
    cpu.futex_wake(_word(buffer, offset, 4), count)


LAYOUT_VERSION = c.LAYOUT_VERSION
CONTROL_BYTES = c.CONTROL_BYTES
CONTROL_MAGIC = c.CONTROL_MAGIC
CONTROL_LAYOUT = c.CONTROL_LAYOUT
CONTROL_NONCE = c.CONTROL_NONCE
CONTROL_GENERATION = c.CONTROL_GENERATION
CONTROL_EPOCH = c.CONTROL_EPOCH
CONTROL_VISIBLE_SEQ = c.CONTROL_VISIBLE_SEQ
CONTROL_ORDERED_SEQ = c.CONTROL_ORDERED_SEQ
CONTROL_GC_FLOOR = c.CONTROL_GC_FLOOR
CONTROL_SLEEPING = c.CONTROL_SLEEPING
CONTROL_STATE = c.CONTROL_STATE
CONTROL_COORDINATOR_PID = c.CONTROL_COORDINATOR_PID
CONTROL_ACTIVE_CLIENTS = c.CONTROL_ACTIVE_CLIENTS
CONTROL_LAST_TIME_US = c.CONTROL_LAST_TIME_US
CONTROL_MEMTABLE_BYTES = c.CONTROL_MEMTABLE_BYTES
CONTROL_BATCH_BYTES_MAX = c.CONTROL_BATCH_BYTES_MAX
STATE_STARTING = c.STATE_STARTING
STATE_RUNNING = c.STATE_RUNNING
STATE_STALLED = c.STATE_STALLED
STATE_DISK_FULL = c.STATE_DISK_FULL
STATE_STOPPED = c.STATE_STOPPED
STATE_POISONED = c.STATE_POISONED
DOORBELL_BYTES = c.DOORBELL_BYTES
DOORBELL_WORD = c.DOORBELL_WORD
DOORBELL_ATTENTION = c.DOORBELL_ATTENTION
CLIENT_MAGIC = c.CLIENT_MAGIC
CLIENT_LAYOUT = c.CLIENT_LAYOUT
CLIENT_SEGMENT_BYTES = c.CLIENT_SEGMENT_BYTES
CLIENT_ID = c.CLIENT_ID
CLIENT_PID = c.CLIENT_PID
CLIENT_GENERATION = c.CLIENT_GENERATION
CLIENT_TAIL = c.CLIENT_TAIL
CLIENT_DONE_POS = c.CLIENT_DONE_POS
CLIENT_SLOTS_USED = c.CLIENT_SLOTS_USED
CLIENT_SLEEPING = c.CLIENT_SLEEPING
CLIENT_WAKE = c.CLIENT_WAKE
CLIENT_ATTACHED = c.CLIENT_ATTACHED
CLIENT_ERROR = c.CLIENT_ERROR
CLIENT_LARGE = c.CLIENT_LARGE
SLOTS_OFFSET = c.SLOTS_OFFSET
SLOT_COUNT = c.SLOT_COUNT
SLOT_BYTES = c.SLOT_BYTES
SLOT_EPOCH = c.SLOT_EPOCH
SLOT_SEQ = c.SLOT_SEQ
SLOT_NOW_US = c.SLOT_NOW_US
SLOT_BORN_NS = c.SLOT_BORN_NS
SLOT_REVOKED = c.SLOT_REVOKED
COMPLETIONS_OFFSET = c.COMPLETIONS_OFFSET
COMPLETION_COUNT = c.COMPLETION_COUNT
COMPLETION_BYTES = c.COMPLETION_BYTES
COMPLETION_REQUEST_NO = c.COMPLETION_REQUEST_NO
COMPLETION_STATUS = c.COMPLETION_STATUS
COMPLETION_REPLY_BYTES = c.COMPLETION_REPLY_BYTES
COMPLETION_SEQ = c.COMPLETION_SEQ
COMPLETION_REPLY = c.COMPLETION_REPLY
METRICS_OFFSET = c.METRICS_OFFSET
METRICS_COUNT = c.METRICS_COUNT
RING_OFFSET = c.RING_OFFSET
RING_BYTES = c.RING_BYTES
CLIENT_BYTES = c.CLIENT_BYTES
REQUEST_HEADER_BYTES = c.REQUEST_HEADER_BYTES
REQUEST_BYTES = c.REQUEST_BYTES
REQUEST_TYPE = c.REQUEST_TYPE
REQUEST_DURABILITY = c.REQUEST_DURABILITY
REQUEST_NO = c.REQUEST_NO
REQUEST_UNANSWERED_NO = c.REQUEST_UNANSWERED_NO
REQUEST_GENERATION = c.REQUEST_GENERATION
REQUEST_SNAPSHOT_SEQ = c.REQUEST_SNAPSHOT_SEQ
REQUEST_DEADLINE_NS = c.REQUEST_DEADLINE_NS
REQUEST_OPS_BYTES = c.REQUEST_OPS_BYTES
REQUEST_COUNT_ = c.REQUEST_COUNT_
REQUEST_CHECKS_BYTES = c.REQUEST_CHECKS_BYTES
REQUEST_LARGE_NO = c.REQUEST_LARGE_NO
REQUEST_NOW_US = c.REQUEST_NOW_US
REQUEST_PAD = c.REQUEST_PAD
REQUEST_BATCH = c.REQUEST_BATCH
DURABILITY_ASYNC = c.DURABILITY_ASYNC
DURABILITY_OS = c.DURABILITY_OS
DURABILITY_SYNC = c.DURABILITY_SYNC
MEMTABLE_MAGIC = c.MEMTABLE_MAGIC
MEMTABLE_LAYOUT = c.MEMTABLE_LAYOUT
MEMTABLE_NUMBER = c.MEMTABLE_NUMBER
MEMTABLE_BYTES = c.MEMTABLE_BYTES
MEMTABLE_SLOT_COUNT = c.MEMTABLE_SLOT_COUNT
MEMTABLE_ARENA_OFFSET = c.MEMTABLE_ARENA_OFFSET
MEMTABLE_USED = c.MEMTABLE_USED
MEMTABLE_KEYS = c.MEMTABLE_KEYS
MEMTABLE_VERSIONS = c.MEMTABLE_VERSIONS
MEMTABLE_FIRST_SEQ = c.MEMTABLE_FIRST_SEQ
MEMTABLE_RANGES = c.MEMTABLE_RANGES
MEMTABLE_RANGE_COUNT = c.MEMTABLE_RANGE_COUNT
MEMTABLE_HEAD = c.MEMTABLE_HEAD
MEMTABLE_HEIGHT_MAX = c.MEMTABLE_HEIGHT_MAX
MEMTABLE_SLOTS_OFFSET = c.MEMTABLE_SLOTS_OFFSET
