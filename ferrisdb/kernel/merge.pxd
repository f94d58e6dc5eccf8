# Many sources as one, and the rows of a range as Python objects.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ferrisdb.kernel.source cimport Source

cdef class Merge(Source):
    cdef list sources
    cdef PyObject **source      # borrowed from `sources`
    cdef uint64_t *heads        # the first 8 bytes of each source's key, as a number
    cdef uint32_t *heap         # indexes of the valid sources, the one to show first at the root
    cdef uint32_t source_count, heap_count
    cdef bint backward, broken
    cdef uint8_t *saved         # the key from which the direction changes
    cdef uint64_t saved_room
    cdef int _begin(self) except -1 nogil
    cdef int _heapify(self, bint backward) except -1 nogil
    cdef int _sift(self, uint32_t root) noexcept nogil
    cdef bint _before(self, uint32_t a, uint32_t b) noexcept nogil
    cdef int _load(self, uint32_t index) noexcept nogil
    cdef int _advance(self, uint32_t place) except -1 nogil
    cdef int _settle(self) except -1 nogil
    cdef int _save_key(self) except -1 nogil

cdef enum:
    # Gathered, then built: two tight loops. Small, so that a short scan's buffers stay below what
    # makes malloc give memory back to the system each time: that cost a scan 3 µs.
    BATCH_ROWS = 64

cdef struct Row:
    const uint8_t *key          # NULL: in Scan.arena, from `place` on
    uint64_t place
    const uint8_t *value
    uint32_t key_bytes
    uint32_t value_bytes
    uint64_t expires_us         # 0: never

cdef class Scan:
    cdef Source source
    cdef list sources, tombstones
    cdef PyObject **ranges      # borrowed from `tombstones`; those with fragments only
    cdef uint32_t range_count
    cdef bytes start, end
    cdef const uint8_t *start_at
    cdef const uint8_t *end_at
    cdef uint64_t start_bytes, end_bytes
    cdef bint bounded, reverse, keys_only, started, behind, done, broken
    cdef int64_t left           # rows until the limit; below 0: no limit
    cdef uint64_t snapshot_seq, now_us
    cdef uint32_t prefix_bytes
    cdef Row *rows
    cdef int64_t row_room       # BATCH_ROWS, or the limit if that is less
    cdef uint8_t *arena
    cdef uint64_t arena_used, arena_room
    # Once, with the fields above from `reverse` on set.
    cdef int begin(self, list sources, list tombstones, bytes start, bytes end) except -1
    cdef int64_t _gather(self, int64_t rows_max, bint keep) except -1 nogil
    cdef bint _in_range(self) noexcept nogil
    cdef bint _live(self) noexcept nogil
    cdef int _keep(self, Row *row) except -1 nogil
    cdef bytes key_of(self, const Row *row)

cdef class Cursor:
    cdef Source source
