# What a commit group takes of a request: its operations, checked, judged and evaluated.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.atomics cimport AtomicOp, AtomicReply, Held
from ferrisdb.kernel.memtable cimport Memtable, MemtableWriter
from ferrisdb.kernel.overlay cimport Overlay
from ferrisdb.kernel.port cimport Request
from ferrisdb.kernel.ports cimport PortTable

cdef enum:
    # No wire codes: the request waits for the next group,
    END_GROUP = 1041
    # and other rings go on in this one.
    NEXT_RING = 1042
    ENTRY_COUNT = 1024          # requests in one group

cdef struct Entry:
    uint32_t port
    uint32_t status             # 0 or a wire code
    uint64_t request_no
    uint64_t first_seq          # where status is not 0: the answer's detail
    uint32_t count
    uint32_t ops_bytes
    uint64_t record             # offset in the group's buffer
    uint64_t record_bytes       # 0: nothing is logged
    uint32_t reply_bytes
    uint8_t reply[32]
    bint known                  # committed in an earlier generation: answer, don't apply
    bint catalogue              # changes which key spaces there are

# What `place` made of a request, for its entry.
cdef struct Placed:
    uint64_t ops_bytes
    uint32_t count
    uint32_t reply_bytes
    uint64_t detail
    AtomicReply reply
    bint catalogue

cdef class Judge(PortTable):
    # Memtables: the active one, and the frozen ones, newest first.
    cdef MemtableWriter memtable
    cdef list history
    cdef uint32_t frozen_count
    cdef uint64_t history_first_seq
    # Bit i of byte i // 8: key space i lives.
    cdef uint8_t *keyspaces
    cdef uint64_t keyspace_room
    # The group in the making.
    cdef uint8_t *group
    cdef uint64_t group_room
    cdef uint64_t group_bytes
    cdef uint64_t group_ops_bytes
    cdef uint64_t group_count
    cdef uint64_t group_time_us
    cdef Entry *entries
    cdef uint32_t entry_count
    cdef Placed placed
    # The request as it was copied out of its client's memory.
    cdef uint8_t *copy
    cdef uint64_t copy_room
    # Keys written by the group so far, for the judgement of later requests of the same group.
    cdef Overlay overlay
    cdef uint32_t overlay_entries
    # A batch in a segment of its own, waiting to be fetched or fetched.
    cdef readonly uint32_t large_port
    cdef readonly uint64_t large_no
    cdef readonly uint64_t large_bytes
    cdef bytes large_ops
    cdef int grow(self, uint64_t more) except -1 nogil
    cdef void begin_group(self) noexcept nogil
    cdef uint32_t place(self, const Request *request) except? 0xFFFFFFFF nogil
    cdef bint note_keyspaces(self) except -1 nogil
    cdef int _copy_in(self, const Request *request, uint64_t ops_at) except -1 nogil
    cdef uint32_t _check_ops(self, uint8_t *ops, const Request *request) noexcept nogil
    cdef uint32_t _check_key(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil
    cdef uint32_t _judge(self, uint64_t snapshot_seq, const uint8_t *checks,
                         uint64_t checks_bytes) noexcept nogil
    cdef bint _key_changed(self, const uint8_t *key, uint32_t key_bytes,
                           uint64_t above) noexcept nogil
    cdef bint _range_changed(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                             uint32_t end_bytes, uint64_t above) noexcept nogil
    cdef bint _group_touches(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                             uint32_t end_bytes) noexcept nogil
    cdef uint64_t _newest_frozen(self, const uint8_t *key, uint32_t key_bytes,
                                 uint64_t hash) noexcept with gil
    cdef bint _frozen_changed(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                              uint32_t end_bytes, uint64_t above) noexcept with gil
    cdef bint _overlay_fill(self) noexcept nogil
    cdef int _set_keyspace(self, uint64_t keyspace, bint lives) except -1 nogil
    cdef void forget_placed(self) noexcept nogil
    cdef void _note_written(self, int64_t written) noexcept nogil
    cdef uint32_t _evaluate(self, const Request *request) except? 0xFFFFFFFF nogil
    cdef uint32_t _evaluate_one(self, const AtomicOp *op, const Request *request,
                                int64_t *written) except? 0xFFFFFFFF nogil
    cdef uint32_t _held(self, const AtomicOp *op, const Request *request, uint64_t hash,
                        Held *out) noexcept nogil
    cdef int _held_in(self, Memtable memtable, const AtomicOp *op, uint64_t hash,
                      Held *out) noexcept nogil
    cdef int _held_frozen(self, const AtomicOp *op, uint64_t hash, Held *out) noexcept with gil
