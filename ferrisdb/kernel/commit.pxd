# The coordinator's commit loop: rings in, WAL records and memtable entries out, answers back.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.memtable cimport MemtableWriter
from ferrisdb.kernel.overlay cimport Overlay
from ferrisdb.kernel.port cimport Request
from ferrisdb.kernel.ports cimport PortTable

cdef struct Entry:
    uint32_t port
    uint32_t status             # 0 or a wire code
    uint64_t request_no
    uint64_t first_seq
    uint32_t count
    uint32_t ops_bytes
    uint64_t record             # offset in the group's buffer; meaningful where status is 0
    uint64_t record_bytes
    bint known                  # committed in an earlier generation: answer, don't apply

cdef class CommitLoop(PortTable):
    cdef uint8_t *control
    cdef uint8_t *doorbell
    cdef Py_buffer _control_buffer
    cdef Py_buffer _doorbell_buffer
    cdef uint32_t port_first
    cdef readonly uint64_t visible_seq
    cdef readonly uint64_t last_time_us
    cdef int64_t spin_ns
    cdef uint32_t cpu_count
    cdef uint32_t attention_seen
    cdef uint64_t tick
    cdef uint32_t crowded       # requests of this tick that came from our own CPU
    # The log and its memtable.
    cdef MemtableWriter memtable
    cdef list history
    cdef uint64_t history_first_seq
    cdef int fd
    cdef uint64_t salt
    cdef readonly uint64_t wal_offset
    cdef readonly uint64_t wal_synced
    cdef uint64_t wal_capacity
    # The group in the making.
    cdef uint8_t *group
    cdef uint64_t group_room
    cdef uint64_t group_bytes
    cdef uint64_t group_ops_bytes
    cdef uint64_t group_count
    cdef uint64_t group_time_us
    cdef bint group_sync
    cdef bint rotate_wanted
    cdef Entry *entries
    cdef uint32_t entry_count
    cdef int stage
    cdef int _errno
    cdef uint64_t _torn_bytes
    # Keys written by the group so far, for the judgement of later requests of the same group.
    cdef Overlay overlay
    cdef uint32_t overlay_entries
    # A batch in a segment of its own, waiting to be fetched or fetched.
    cdef readonly uint32_t large_port
    cdef readonly uint64_t large_no
    cdef readonly uint64_t large_bytes
    cdef bytes large_ops
    # A control request that the caller is to answer at once.
    cdef readonly bytes control_ops
    cdef uint32_t control_port
    cdef uint64_t control_no
    cdef readonly uint64_t commits
    cdef readonly uint64_t groups
    cdef uint32_t _pending(self) noexcept nogil
    cdef bint _await_more(self, int64_t duration_ns) noexcept nogil
    cdef int _grow(self, uint64_t more) except -1 nogil
    cdef int _take(self, uint32_t index) except -1 nogil
    cdef int _take_control(self, uint32_t index, const Request *request) except -1 with gil
    cdef uint32_t _admit(self, uint32_t index, const Request *request) noexcept nogil
    cdef uint32_t _place(self, const Request *request) except? 0xFFFFFFFF nogil
    cdef void _enter(self, uint32_t index, const Request *request, uint32_t status) noexcept nogil
    cdef uint32_t _judge(self, uint64_t snapshot_seq, const uint8_t *checks,
                         uint64_t checks_bytes) noexcept nogil
    cdef void _overlay_fill(self) noexcept nogil
    cdef uint64_t _newest(self, const uint8_t *key, uint32_t key_bytes, uint64_t hash,
                          uint64_t above) noexcept nogil
    cdef int _step(self) except -1 nogil
    cdef int _after_write(self) noexcept nogil
    cdef uint64_t _newest_frozen(self, const uint8_t *key, uint32_t key_bytes,
                                 uint64_t hash) noexcept with gil
    cdef int _gather(self) except -1 nogil
    cdef void _seal(self) noexcept nogil
    cdef int _write(self) noexcept nogil
    cdef void _finish(self) noexcept nogil
    cdef void _answer(self, uint32_t status) noexcept nogil
    cdef void _link(self, uint32_t count_max) noexcept nogil
    cdef void _count_active(self) noexcept nogil
    cdef void _make_room(self) noexcept nogil
    cdef int _idle(self, int64_t deadline_ns) noexcept nogil
    cdef int _expire(self, uint32_t index, uint32_t status, int64_t now_ns) noexcept nogil
