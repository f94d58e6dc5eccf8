# An attached process: reads in place, writes through its ring.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.batch cimport BatchBuffer
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
    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes, uint64_t snapshot_seq, Hit *out) except -1
    cdef uint64_t covering(self, int i, const uint8_t *key, uint32_t key_bytes, uint64_t snapshot_seq) except? 1
    cdef bint ranges_stale(self) noexcept

cdef class Attachment:
    cdef uint8_t *control
    cdef uint8_t *doorbell
    cdef uint8_t *segment
    cdef uint8_t *slot
    cdef uint32_t *alive            # 1 while attached; a page that fork wipes to 0
    cdef object _alive_map
    cdef list _maps
    cdef readonly ReadView view
    cdef readonly bytes prefix
    cdef uint8_t *scratch
    cdef uint32_t prefix_bytes
    cdef readonly uint64_t session  # grows at each attach; snapshots of a former one are closed
    cdef public uint64_t generation
    cdef public uint32_t cpu_count
    cdef public int64_t timeout_ns
    cdef public int default_durability
    # The ring, producer's side.
    cdef uint64_t tail
    cdef uint64_t done_pos
    cdef uint64_t next_no
    cdef uint64_t done_no
    cdef uint64_t async_no          # the last asynchronous request that nobody waited for
    cdef int async_status
    cdef uint64_t end_pos[256]
    cdef uint8_t waiting[256]       # 1: a thread waits for it; 2: it gave up
    cdef int64_t spin_ns            # running average of the spins that saw their answer; 0: they don't
    cdef uint32_t spins_in_vain
    cdef uint32_t wait_count
    cdef uint8_t slots_taken[256]
    cdef uint64_t *metrics
    cdef int enter(self) except -1
    cdef int pin(self, uint64_t *seq) except -1
    cdef uint8_t *reserve(self, uint64_t nbytes, int64_t deadline_ns) except NULL
    cdef uint64_t push(self, uint8_t *record, uint64_t nbytes, int durability, uint32_t ops_bytes, uint32_t count, int64_t deadline_ns, bint waited) except 0
    cdef void absorb(self) noexcept
    cdef void _spin(self, const uint8_t *completion, uint64_t request_no) noexcept
    cdef uint64_t wait(self, uint64_t request_no, int64_t deadline_ns) except 0
    cdef int _sleep(self, uint64_t request_no, int64_t deadline_ns) except -1
    cdef uint64_t put_one(self, uint8_t kind, object key, object value, uint64_t expires_us, int durability) except 0
    cdef int durability_code(self, object durability) except -1
    cdef object value_at(self, object key)
    cdef int stored(self, object key) except -1
    cdef int _read_many(self, ReadView view, list keys, list values, uint64_t seq, uint64_t now_us) except -1

cdef class Pin:
    cdef Attachment owner
    cdef uint8_t *slot
    cdef uint32_t index
    cdef readonly uint64_t session
    cdef readonly ReadView view
    cdef readonly uint64_t seq
    cdef readonly uint64_t now_us
    cdef readonly uint64_t generation
    cdef void _let_go(self) noexcept
    cdef int check(self) except -1
