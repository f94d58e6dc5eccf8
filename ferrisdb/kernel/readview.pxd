# One version's memtables and tables, newest first.
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.source cimport Hit

cdef class ReadView:
    # One version: its memtables and tables, newest first.
    cdef readonly uint64_t epoch
    cdef readonly list memtables
    cdef readonly list tables
    cdef readonly object page
    cdef PyObject **memtable_at
    cdef PyObject **table_at
    cdef int memtable_count
    cdef int table_count
    cdef bint tables_have_ranges
    # Range tombstones of each memtable: how many of its oldest are in `ranges`.
    cdef list ranges
    cdef uint32_t *ranges_held
    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes,
                    uint64_t snapshot_seq, Hit *out) except -1
    cdef uint64_t covering(self, int i, const uint8_t *key, uint32_t key_bytes,
                           uint64_t snapshot_seq) except? 1
    cdef bint ranges_stale(self) noexcept
