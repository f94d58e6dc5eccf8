# What a memtable, a table and a merge have in common: entries in key order.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    KIND_PUT = 1
    KIND_DELETE = 2
    KIND_RANGE_DELETE = 3       # key = start, value = end; never inside a Source
    KIND_PUT_EXPIRING = 4       # a put with an absolute expiry, µs since the epoch

# One version, as found at or below a snapshot. Pointers into mapped memory, valid under a pin.
cdef struct Hit:
    uint64_t seq
    uint64_t expires_us         # 0: never
    const uint8_t *value
    uint32_t value_bytes
    uint8_t kind                # KIND_PUT, KIND_DELETE, KIND_PUT_EXPIRING

cdef class Source:
    # Entries of one memtable or table, as a movable position. Never owns the memory it shows.
    cdef bint valid             # False: before the first or behind the last entry
    cdef bint all_versions      # True: every version, newest first, forward only
    cdef uint64_t snapshot_seq  # else: per key only the newest version at or below this
    cdef const uint8_t *key
    cdef uint32_t key_bytes
    cdef bint lasting           # the key stays where it is, as the value does; else until a move
    cdef Hit hit
    cdef int seek_first(self) except -1 nogil
    cdef int seek_last(self) except -1 nogil
    # To the first key >= the given one.
    cdef int seek(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil
    # To the last key < the given one.
    cdef int seek_before(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil
    cdef int step(self) except -1 nogil
    cdef int step_back(self) except -1 nogil
