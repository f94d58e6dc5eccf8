# The coordinator's commit loop: rings in, WAL records and memtable entries out, answers back.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.judge cimport Entry, Judge
from ferrisdb.kernel.memtable cimport MemtableWriter
from ferrisdb.kernel.port cimport Port, Request

cdef class CommitLoop(Judge):
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
    cdef int64_t sync_ns        # how long the last group's sync took; 0: it was not synced
    cdef int64_t written_ns     # when the group was written that is being synced
    cdef bint serves_readers    # a reader worker sent something in the last tick
    cdef uint32_t crowded       # requests of this tick that came from our own CPU
    # The log.
    cdef int fd
    cdef uint64_t salt
    cdef readonly uint64_t wal_offset
    cdef readonly uint64_t wal_synced
    cdef uint64_t wal_capacity
    # The group in the making.
    cdef bint group_sync
    cdef bint rotate_wanted
    cdef int stage
    cdef int _errno
    cdef uint64_t _torn_bytes
    # A control request that the caller is to answer at once.
    cdef readonly bytes control_ops
    cdef uint32_t control_port
    cdef uint64_t control_no
    cdef readonly uint64_t commits
    cdef readonly uint64_t groups
    cdef uint32_t _pending(self) noexcept nogil
    cdef bint _await_more(self, int64_t duration_ns) noexcept nogil
    cdef int _take(self, uint32_t index) except -1 nogil
    cdef int _take_control(self, uint32_t index, const Request *request) except -1 with gil
    cdef bint _fits(self, uint64_t ops_bytes, uint32_t count, uint64_t reply_bytes) noexcept nogil
    cdef uint32_t _admit(self, uint32_t index, const Request *request) noexcept nogil
    cdef uint32_t _admit_results(self) noexcept nogil
    cdef void _enter_record(self, const Port *port, Entry *entry,
                            const Request *request) noexcept nogil
    cdef void _enter(self, uint32_t index, const Request *request, uint32_t status) noexcept nogil
    cdef void _await_company(self) noexcept nogil
    cdef int _step(self) except -1 nogil
    cdef int _after_write(self) noexcept nogil
    cdef void _after_sync(self) noexcept nogil
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
