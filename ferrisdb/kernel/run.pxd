# The tables of one level, opened when they are first touched.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.cpu cimport load64_acquire

# Where a table lies among the keys; offsets into TableRun.keys.
cdef struct Place:
    PyObject *table             # NULL: not opened yet
    uint64_t head               # the smallest key's first bytes behind those that all share
    uint64_t smallest
    uint64_t largest
    uint32_t smallest_bytes
    uint32_t largest_bytes
    bint unbounded
    bint has_ranges

cdef class TableRun:
    cdef list refs
    cdef readonly list tables   # None where not opened
    cdef object opener
    cdef bytes keys
    cdef const uint8_t *key_at
    cdef Place *places
    cdef readonly uint32_t count
    cdef uint32_t range_count   # tables with range tombstones
    cdef uint32_t shared        # bytes that all smallest keys begin with
    # Whether the table's bounds enclose the key.
    cdef bint holds(self, uint32_t index, const uint8_t *key, uint32_t key_bytes) noexcept nogil
    # Whether the table's bounds reach into [first, last), last None for no bound.
    cdef bint reaches_into(self, uint32_t index, bytes first, bytes last) noexcept
    # The one table that can hold the key; -1: none. For tables that don't overlap.
    cdef int64_t find(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil
    # How many tables begin below the key.
    cdef uint32_t count_below(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil
    # Index of the first table that reaches the key or goes beyond it; count: none.
    cdef uint32_t first_reaching(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil
    cdef uint32_t _count_to(self, const uint8_t *key, uint32_t key_bytes,
                            bint same) noexcept nogil
    cdef bint _reaches(self, Place *place, const uint8_t *key, uint32_t key_bytes) noexcept nogil
    cdef PyObject *_open(self, uint32_t index) except NULL with gil
    # The table, borrowed from `tables`.
    cdef inline PyObject *at(self, uint32_t index) except NULL nogil:
        # Acquire: a thread without the GIL sees the table that the pointer shows as it was made.
        cdef PyObject *table = <PyObject *>load64_acquire(&self.places[index].table)
        if table != NULL:
            return table
        return self._open(index)
