# cython: language_level=3, boundscheck=False, wraparound=False
"""Show the offsets of layout.pxd to Python, and give Python ordered access to shared words.

Every accessor takes a buffer (a memory map) and an offset in bytes; it checks bounds and
alignment and raises ValueError. The orders are in the names; see cpu.h.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel cimport cpu


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


def futex_wait(const uint8_t[::1] buffer not None, Py_ssize_t offset, uint32_t expected,
               int64_t timeout_ns):
    """Sleep while the u32 equals `expected`, at most `timeout_ns` (monotonic); may return early."""
    cdef uint8_t *word = _word(buffer, offset, 4)
    with nogil:
        cpu.futex_wait(word, expected, timeout_ns)


def futex_wake(const uint8_t[::1] buffer not None, Py_ssize_t offset, int count):
    """Wake up to `count` sleepers on the u32."""
    cpu.futex_wake(_word(buffer, offset, 4), count)
