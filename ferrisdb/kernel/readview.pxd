# One version's memtables and tables, newest first.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.source cimport Hit

cdef enum:
    LOOKUP_WINDOW = 16          # keys of a multi_get whose cache misses overlap

# Where a table lies among the keys; offsets into ReadView.keys.
cdef struct Place:
    PyObject *table
    uint64_t head               # the smallest key's first bytes behind those that all share
    uint64_t smallest
    uint64_t largest
    uint32_t smallest_bytes
    uint32_t largest_bytes
    bint unbounded

# The places of one level from 1 on: in key order, not overlapping.
cdef struct Run:
    uint32_t first
    uint32_t end
    uint32_t shared             # bytes that all its smallest keys begin with

cdef class ReadView:
    # One version: its memtables and tables, newest first.
    cdef readonly uint64_t epoch
    cdef readonly list memtables
    cdef readonly list tables
    cdef readonly object page
    cdef PyObject **memtable_at
    cdef int memtable_count
    # Tables by where they can hold a key: those of level 0 one by one, the others by level.
    cdef bytes keys
    cdef const uint8_t *key_at
    cdef Place *places
    cdef Run *runs
    cdef uint32_t level0_count
    cdef uint32_t run_count
    cdef uint32_t candidate_max
    cdef PyObject **candidates  # candidate_max for each key of a window; under the GIL
    # Range tombstones of each memtable: how many of its oldest are in `ranges`.
    cdef list ranges
    cdef uint32_t *ranges_held
    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes,
                    uint64_t snapshot_seq, Hit *out) except -1
    cdef int _place_tables(self, tables, refs) except -1
    cdef int choose(self, const uint8_t *key, uint32_t key_bytes, PyObject **out) noexcept
    cdef int64_t _in_run(self, Run *run, const uint8_t *key, uint32_t key_bytes) noexcept
    cdef bint _below_end(self, Place *place, const uint8_t *key, uint32_t key_bytes) noexcept
    cdef int probe(self, const uint8_t *key, uint32_t key_bytes, uint64_t hash,
                   uint64_t snapshot_seq, PyObject **tables, int table_count, Hit *out) except -1
    cdef uint64_t covering(self, int i, const uint8_t *key, uint32_t key_bytes,
                           uint64_t snapshot_seq) except? 1
    cdef bint ranges_stale(self) noexcept
