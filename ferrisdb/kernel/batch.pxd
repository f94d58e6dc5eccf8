# Operations of one batch, encoded as they will stand in the ring and in the WAL.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.atomics cimport AtomicOp

cpdef enum OpKind:
    # As encoded; OP_PUT_TTL and OP_ATOMIC never reach a log.
    OP_PUT = 1
    OP_DELETE = 2
    OP_RANGE_DELETE = 3
    OP_PUT_EXPIRING = 4
    OP_PUT_TTL = 0x44
    OP_ATOMIC = 0x50

cdef class BatchBuffer:
    cdef uint8_t *base
    cdef uint64_t nbytes
    cdef uint64_t room
    cdef readonly uint32_t count
    cdef readonly bytes prefix      # what `switch` said last
    cdef readonly bint is_atomic    # it holds atomic operations
    cdef int add(self, uint8_t kind, const uint8_t *key, uint32_t key_bytes, const uint8_t *value,
                 uint32_t value_bytes, uint64_t expires_us) except -1
    # Key, operand, expected and hint are copied; the prefix is put before the key.
    cdef int add_atomic(self, const AtomicOp *op, bytes prefix) except -1
    cdef int _reserve(self, uint64_t need) except -1
    cdef int _reserve_more(self, uint64_t nbytes) except -1
    cdef int add_range(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                       uint32_t end_bytes, bint bounded) except -1

cdef int as_bytes(object value, str what, const uint8_t **at, Py_ssize_t *count) except -1
cpdef int64_t ttl_us(object ttl) except -1
# Kind and expiry, in µs, of a put with one of both or none.
cdef uint8_t put_kind(object ttl, object expires_at, uint64_t *expires_us) except 0
