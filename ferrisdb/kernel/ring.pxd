# An attached process's ring, producer's side, and the pages that it shares with the service.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.atomics cimport AtomicReply
from ferrisdb.kernel.batch cimport BatchBuffer

cdef enum:
    # Counters in the client's metrics row.
    METRIC_GETS = 0
    METRIC_REQUESTS = 1
    METRIC_SCANS = 2

cdef class RingProducer:
    cdef uint8_t *control
    cdef uint8_t *doorbell
    cdef uint8_t *segment
    cdef uint32_t *alive            # 1 while attached; a page that fork wipes to 0
    # By a pointer, for the garbage collector clears all others before it frees a pin, which looks
    # at `alive`.
    cdef Py_buffer *alive_page
    cdef list _maps
    cdef readonly uint64_t session  # grows at each attach; snapshots of a former one are closed
    cdef public uint64_t generation
    cdef public uint32_t cpu_count
    cdef public int64_t timeout_ns
    cdef public int default_durability
    cdef uint64_t tail
    cdef uint64_t done_pos
    cdef uint64_t next_no
    cdef uint64_t done_no
    cdef uint64_t async_no          # the last asynchronous request that nobody waited for
    cdef int async_status
    cdef uint64_t end_pos[256]
    cdef uint8_t waiting[256]       # 1: a thread waits for it; 2: it gave up
    cdef int64_t spin_ns            # running average of spins that saw their answer; 0: they don't
    cdef uint32_t spins_in_vain
    cdef uint32_t wait_count
    cdef uint64_t *metrics
    cdef uint8_t *reserve(self, uint64_t nbytes, int64_t deadline_ns) except NULL
    cdef uint64_t push(self, uint8_t *record, uint64_t nbytes, int durability, uint32_t ops_bytes,
                       uint32_t count, int64_t deadline_ns, bint waited) except 0
    cdef bint has_room(self, uint64_t nbytes) noexcept
    cdef void absorb(self) noexcept
    cdef void _spin(self, const uint8_t *completion, uint64_t request_no) noexcept
    cdef uint64_t wait(self, uint64_t request_no, int64_t deadline_ns) except 0
    cdef int _sleep(self, uint64_t request_no, int64_t deadline_ns) except -1
    cdef AtomicReply last_reply     # of the answer that was taken last
    cdef uint64_t put_one(self, bytes prefix, uint8_t kind, object key, object value,
                          uint64_t expires_us, int durability) except 0
    cdef uint64_t _commit(self, BatchBuffer batch, int durability, uint64_t generation,
                          uint64_t snapshot_seq, bytes checks, uint64_t expiry_us) except 0
    cdef int _check_size(self, BatchBuffer batch, bytes checks) except -1
    cdef uint64_t _record_bytes(self, BatchBuffer batch, bytes checks) noexcept
    cdef uint64_t _push_batch(self, BatchBuffer batch, int durability, uint64_t generation,
                              uint64_t snapshot_seq, bytes checks, uint64_t expiry_us,
                              uint64_t large_no, int64_t deadline_ns, bint waited) except 0
    cdef void _take_reply(self, const uint8_t *completion) noexcept
    cdef int durability_code(self, object durability) except -1
    cdef int begin_write(self) except -1
