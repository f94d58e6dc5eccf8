# A memtable in one shared segment: hash index, version chains, skip list. Layout: shm/memtable.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.source cimport Hit, Source

cdef class Memtable:
    cdef uint8_t *base
    cdef readonly uint64_t nbytes
    cdef readonly uint64_t number
    cdef readonly uint64_t first_seq
    cdef uint64_t slot_mask
    cdef Py_buffer _buffer
    cdef bint _held
    # Readers, any process.
    cdef void prefetch(self, uint64_t hash) noexcept nogil
    cdef bint lookup(self, const uint8_t *key, uint32_t key_bytes, uint64_t hash,
                     uint64_t snapshot_seq,
                     Hit *out) noexcept nogil
    cdef uint64_t newest_seq(self, const uint8_t *key, uint32_t key_bytes,
                             uint64_t hash) noexcept nogil
    cdef uint32_t find_node(self, const uint8_t *key, uint32_t key_bytes,
                            uint64_t hash) noexcept nogil
    cdef uint32_t range_count(self) noexcept nogil
    # Whether there is any version, as of what the caller acquired before.
    cdef bint holds_any(self) noexcept nogil
    cdef uint64_t covering_tail(self, const uint8_t *key, uint32_t key_bytes, uint64_t snapshot_seq,
                                uint32_t skip_oldest) noexcept nogil
    cdef uint64_t covering_seq(self, const uint8_t *key, uint32_t key_bytes,
                               uint64_t snapshot_seq) noexcept nogil

    # Whether a version or a range tombstone of [start, end) is newer; end_bytes 0: no bound. Asked
    # where the order is complete.
    cdef bint changed_since(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                            uint32_t end_bytes, uint64_t seq) noexcept nogil

cdef class MemtableWriter(Memtable):
    cdef uint64_t used
    cdef uint64_t keys
    cdef uint64_t keys_max
    cdef uint64_t versions
    cdef uint64_t random
    cdef uint32_t height
    # Nodes that the hash index shows and the skip list doesn't yet, oldest first.
    cdef uint32_t *pending
    cdef uint64_t *pending_seq
    cdef uint32_t pending_first
    cdef uint32_t pending_end
    cdef uint32_t pending_room
    cdef bint has_room(self, uint64_t ops_bytes, uint64_t count) noexcept nogil
    cdef bint could_hold(self, uint64_t ops_bytes, uint64_t count) noexcept nogil
    cdef int reserve_pending(self, uint64_t count) except -1 nogil
    cdef void apply_ops(self, const uint8_t *ops, uint64_t ops_bytes,
                        uint64_t first_seq) noexcept nogil
    cdef void link_some(self, uint32_t count_max) noexcept nogil
    cdef void _search(self, const uint32_t *nodes, uint32_t n, uint32_t preds[][16]) noexcept nogil
    cdef void _splice(self, uint32_t node, uint32_t *preds) noexcept nogil
    cdef uint32_t _alloc(self, uint64_t nbytes) noexcept nogil
    cdef void _insert(self, uint8_t kind, const uint8_t *key, uint32_t key_bytes, uint64_t hash,
                      const uint8_t *value, uint32_t value_bytes, uint64_t expires_us,
                      uint64_t seq) noexcept nogil
    cdef void _insert_range(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                            uint32_t end_bytes, uint64_t seq) noexcept nogil

cdef class MemtableSource(Source):
    cdef Memtable table
    cdef uint32_t node
    cdef uint32_t version
    cdef uint32_t *order        # NULL: not noted
    cdef uint64_t order_count, place
    cdef void _note_order(self) noexcept nogil
    cdef void _forget_order(self) noexcept nogil
    cdef void _go_on(self) noexcept nogil
    cdef void _next_node(self) noexcept nogil
    cdef void _follow(self) noexcept nogil
    cdef bint _show(self) noexcept nogil
    cdef void _show_forward(self) noexcept nogil
    cdef void _show_backward(self) noexcept nogil
    cdef uint32_t _last_before(self, const uint8_t *key, uint32_t key_bytes,
                               bint unbounded) noexcept nogil
