# cython: language_level=3, boundscheck=False, wraparound=False
"""Encode puts and deletes into one buffer, in the form in which they are logged."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel.atomics cimport (ATOMIC_HEADER_BYTES, ATOMIC_HINT, ATOMIC_HINT_ABSENT,
                                      REQUEST_ATOMIC_OP, AtomicOp, atomic_parse)
from ferrisdb.kernel.cpu cimport put_u32, put_u64
from ferrisdb.kernel.source cimport KIND_DELETE, KIND_PUT, KIND_PUT_EXPIRING, KIND_RANGE_DELETE
from ferrisdb.kernel.wal cimport REQUEST_PUT_TTL, Op, op_header_bytes, op_parse

from ferrisdb import limits
from ferrisdb.errors import KeyTooLargeError, UsageError, ValueTooLargeError, WrongTypeError
from ferrisdb.keys import prefix_end

cdef Py_ssize_t KEY_MAX = limits.KEY_BYTES_MAX
cdef enum:
    PAIR_OVERHEAD = 136     # beyond its encoded bytes: see OP_OVERHEAD in memtable.pyx

cdef Py_ssize_t VALUE_MAX = limits.VALUE_BYTES_MAX


cdef int as_bytes(object value, str what, const uint8_t **at, Py_ssize_t *count) except -1:
    """Give the address and length of a key or value within its limit."""
    if not PyBytes_CheckExact(value) and not isinstance(value, bytes):
        raise WrongTypeError(f"a {what} is bytes, not {type(value).__name__}: encode it first")
    at[0] = <const uint8_t *>PyBytes_AS_STRING(value)
    count[0] = PyBytes_GET_SIZE(value)
    if count[0] <= KEY_MAX:             # whatever it is
        return 0
    if what == "value":
        if count[0] > VALUE_MAX:
            raise ValueTooLargeError(f"the value has {count[0]} bytes; at most {VALUE_MAX} may be")
    elif count[0] > KEY_MAX:
        raise KeyTooLargeError(f"the {what} has {count[0]} bytes; at most {KEY_MAX} are allowed")
    return 0


cpdef int64_t ttl_us(object ttl) except -1:
    """Return a time to live in seconds as µs; None is 0, no expiry.

    Raises:  WrongTypeError, UsageError.
    """
    cdef double seconds
    if ttl is None:
        return 0
    if not isinstance(ttl, (int, float)):
        raise WrongTypeError(f"ttl is a number of seconds, not {type(ttl).__name__}")
    seconds = ttl
    if not 0 < seconds <= 1e10:
        raise UsageError(f"ttl={ttl} must be above 0 and at most 10,000,000,000 seconds")
    return max(<int64_t>(seconds * 1e6), 1)


cdef uint8_t put_kind(object ttl, object expires_at, uint64_t *expires_us) except 0:
    expires_us[0] = 0
    if expires_at is None:
        if ttl is None:
            return KIND_PUT
        expires_us[0] = ttl_us(ttl)
        return REQUEST_PUT_TTL
    if ttl is not None:
        raise UsageError("ttl and expires_at exclude each other: it is one moment")
    expires_us[0] = moment_us(expires_at)
    return KIND_PUT_EXPIRING


def moment_us(expires_at):
    """Return a moment in seconds since the epoch as µs.

    Raises:  WrongTypeError, UsageError.
    """
    cdef double seconds
    if not isinstance(expires_at, (int, float)):
        raise WrongTypeError(
            f"a moment is a number of seconds since the epoch, not {type(expires_at).__name__}")
    seconds = expires_at
    if not 0 < seconds <= 1e11:
        raise UsageError(f"{expires_at} is no moment: seconds since the epoch, above 0")
    return max(<int64_t>(seconds * 1e6), 1)


cdef class BatchBuffer:
    """Operations in the order in which they were added; later ones win.

    Shape:   prefix, what the key space puts before every key.
    """

    def __cinit__(self, bytes prefix not None):
        self.prefix = prefix

    def __dealloc__(self):
        free(self.base)

    cdef int add(self, uint8_t kind, const uint8_t *key, uint32_t key_bytes, const uint8_t *value,
                 uint32_t value_bytes, uint64_t expires_us) except -1:
        cdef uint32_t prefix_bytes = <uint32_t>PyBytes_GET_SIZE(self.prefix)
        cdef uint32_t head = op_header_bytes(kind)
        cdef uint64_t need = self.nbytes + head + prefix_bytes + key_bytes + value_bytes
        cdef uint8_t *p
        if need > self.room:
            self._reserve(need)
        p = self.base + self.nbytes
        put_u32(p, (prefix_bytes + key_bytes) | <uint32_t>kind << 24)
        put_u32(p + 4, value_bytes)
        if head == 16:
            put_u64(p + 8, expires_us)
        p += head
        memcpy(p, PyBytes_AS_STRING(self.prefix), prefix_bytes)
        memcpy(p + prefix_bytes, key, key_bytes)
        memcpy(p + prefix_bytes + key_bytes, value, value_bytes)
        self.nbytes = need
        self.count += 1
        return 0

    cdef int add_range(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                       uint32_t end_bytes, bint bounded) except -1:
        """Delete [start, end) of the key space; not bounded: to the key space's end."""
        cdef bytes last
        if bounded:
            last = self.prefix + (<const char *>end)[:end_bytes]
        else:
            last = prefix_end(self.prefix) or b""
        self.add(KIND_RANGE_DELETE, start, start_bytes, <const uint8_t *>PyBytes_AS_STRING(last),
                 <uint32_t>PyBytes_GET_SIZE(last), 0)
        return 0

    cdef int _reserve(self, uint64_t need) except -1:
        cdef uint64_t room = max(need + need // 2, <uint64_t>4096)
        cdef void *grown = realloc(self.base, room)
        if grown == NULL:
            raise MemoryError()
        self.base = <uint8_t *>grown
        self.room = room
        return 0

    cdef int add_atomic(self, const AtomicOp *op, bytes prefix) except -1:
        cdef uint32_t prefix_bytes = <uint32_t>PyBytes_GET_SIZE(prefix)
        cdef uint32_t payload = op.operand_bytes + op.expected_bytes + op.hint_bytes
        cdef uint64_t need = (self.nbytes + ATOMIC_HEADER_BYTES + prefix_bytes + op.key_bytes
                              + payload)
        cdef uint8_t *p
        if need > self.room:
            self._reserve(need)
        p = self.base + self.nbytes
        put_u32(p, (prefix_bytes + op.key_bytes) | <uint32_t>REQUEST_ATOMIC_OP << 24)
        put_u32(p + 4, payload)
        put_u32(p + 8, op.operation | <uint32_t>op.flags << 16)
        put_u32(p + 12, op.operand_bytes)
        put_u32(p + 16, op.expected_bytes)
        put_u32(p + 20, 0)
        put_u64(p + 24, op.expires_us)
        put_u64(p + 32, op.hint_expires_us)
        p += ATOMIC_HEADER_BYTES
        memcpy(p, PyBytes_AS_STRING(prefix), prefix_bytes)
        memcpy(p + prefix_bytes, op.key, op.key_bytes)
        p += prefix_bytes + op.key_bytes
        memcpy(p, op.operand, op.operand_bytes)
        memcpy(p + op.operand_bytes, op.expected, op.expected_bytes)
        memcpy(p + op.operand_bytes + op.expected_bytes, op.hint, op.hint_bytes)
        self.nbytes = need
        self.count += 1
        self.is_atomic = True
        return 0

    def atomic(self, int operation, key, bytes operand not None=b"", bytes expected not None=b"",
               int flags=0, uint64_t expires_us=0):
        """Add an atomic operation (kernel/atomics.pxd), without a hint: see `hinted`.

        Raises:  WrongTypeError, KeyTooLargeError, ValueTooLargeError; nothing added.
        """
        cdef AtomicOp op
        cdef const uint8_t *k
        cdef const uint8_t *v
        cdef Py_ssize_t key_bytes, n
        as_bytes(key, "key", &k, &key_bytes)
        as_bytes(operand, "value", &v, &n)
        as_bytes(expected, "value", &v, &n)
        memset(&op, 0, sizeof(op))
        op.operation, op.flags, op.expires_us = <uint8_t>operation, <uint16_t>flags, expires_us
        op.key, op.key_bytes = k, <uint32_t>key_bytes
        op.operand = <const uint8_t *>PyBytes_AS_STRING(operand)
        op.operand_bytes = <uint32_t>len(operand)
        op.expected = <const uint8_t *>PyBytes_AS_STRING(expected)
        op.expected_bytes = <uint32_t>len(expected)
        self.add_atomic(&op, self.prefix)

    def hinted(self, read):
        """Return a copy in which each atomic operation carries what its key holds as a hint.

        Shape:   read, called with a stored key, returns (value or None, expires_us).
        """
        cdef BatchBuffer copy = BatchBuffer(self.prefix)
        cdef uint64_t at = 0
        cdef uint32_t used
        cdef AtomicOp atomic
        cdef Op op
        while at < self.nbytes:
            if self.base[at + 3] != REQUEST_ATOMIC_OP:
                used = op_parse(self.base + at, self.nbytes - at, &op)
                copy._reserve_more(used)
                memcpy(copy.base + copy.nbytes, self.base + at, used)
                copy.nbytes += used
                copy.count += 1
            else:
                used = atomic_parse(self.base + at, self.nbytes - at, &atomic)
                value, expires_us = read((<const char *>atomic.key)[:atomic.key_bytes])
                atomic.flags = (atomic.flags & ~(ATOMIC_HINT | ATOMIC_HINT_ABSENT)) | (
                    ATOMIC_HINT_ABSENT if value is None else ATOMIC_HINT)
                atomic.hint, atomic.hint_bytes, atomic.hint_expires_us = NULL, 0, 0
                if value is not None:
                    atomic.hint = <const uint8_t *>PyBytes_AS_STRING(<bytes>value)
                    atomic.hint_bytes = <uint32_t>len(<bytes>value)
                    atomic.hint_expires_us = expires_us
                copy.add_atomic(&atomic, b"")
            if used == 0:
                raise UsageError("the batch is malformed")
            at += used
        return copy

    cdef int _reserve_more(self, uint64_t nbytes) except -1:
        if self.nbytes + nbytes > self.room:
            self._reserve(self.nbytes + nbytes)
        return 0

    def mark(self):
        """Return where the batch is now, for `rewind` and `since`."""
        return self.nbytes, self.count, self.is_atomic

    def rewind(self, mark):
        """Forget what was added behind a mark."""
        cdef uint64_t nbytes
        cdef uint32_t count
        cdef bint is_atomic
        nbytes, count, is_atomic = mark
        if nbytes > self.nbytes or count > self.count:
            raise UsageError("the mark is not of this batch, or was rewound over")
        self.nbytes, self.count, self.is_atomic = nbytes, count, is_atomic

    def operations(self, uint64_t at):
        """Return the operations from byte `at` on.

        Shape:   at, where an operation begins.
        Returns: (OpKind, stored key, value, expires_us) each; of a range delete its start and its
                 end, empty for no bound; of an atomic operation all of it, encoded.
        """
        cdef list found = []
        cdef uint32_t used
        cdef AtomicOp atomic
        cdef Op op
        while at < self.nbytes:
            if self.nbytes - at > 3 and self.base[at + 3] == REQUEST_ATOMIC_OP:
                used = atomic_parse(self.base + at, self.nbytes - at, &atomic)
                found.append((OP_ATOMIC, (<const char *>atomic.key)[:atomic.key_bytes],
                              (<const char *>self.base)[at:at + used], 0))
            else:
                used = op_parse(self.base + at, self.nbytes - at, &op)
                found.append((op.kind, (<const char *>op.key)[:op.key_bytes],
                              (<const char *>op.value)[:op.value_bytes], op.expires_us))
            if used == 0:
                raise UsageError("there is no operation at that byte of the batch")
            at += used
        return found

    def switch(self, bytes prefix not None):
        """Put another key space's prefix before the keys of what is added from here on."""
        self.prefix = prefix

    def __len__(self):
        return self.count

    @property
    def encoded_bytes(self):
        """Bytes of the operations as they will be logged."""
        return self.nbytes

    def encoded(self):
        """Return a copy of the encoded operations."""
        return (<const char *>self.base)[:self.nbytes] if self.nbytes else b""

    def put(self, key, value, ttl=None, expires_at=None):
        """Add a put; `ttl` in seconds from the commit, `expires_at` in seconds since the epoch.

        Raises:  WrongTypeError, KeyTooLargeError, ValueTooLargeError, UsageError; nothing added.
        """
        cdef const uint8_t *k
        cdef const uint8_t *v
        cdef Py_ssize_t key_bytes, value_bytes
        cdef uint64_t expires
        cdef uint8_t kind = put_kind(ttl, expires_at, &expires)
        as_bytes(key, "key", &k, &key_bytes)
        as_bytes(value, "value", &v, &value_bytes)
        self.add(kind, k, <uint32_t>key_bytes, v,
                 <uint32_t>value_bytes, expires)

    def put_until(self, key, value, uint64_t expires_us):
        """Add a put that expires at a moment in µs since the epoch; 0: never. Raises: as `put`."""
        cdef const uint8_t *k
        cdef const uint8_t *v
        cdef Py_ssize_t key_bytes, value_bytes
        as_bytes(key, "key", &k, &key_bytes)
        as_bytes(value, "value", &v, &value_bytes)
        if expires_us >> 63:
            raise UsageError(f"{expires_us} µs is no moment: at most 2**63 - 1")
        self.add(KIND_PUT_EXPIRING if expires_us else KIND_PUT, k, <uint32_t>key_bytes, v,
                 <uint32_t>value_bytes, expires_us)

    def delete(self, key):
        """Add a delete; an absent key is no error."""
        cdef const uint8_t *k
        cdef Py_ssize_t key_bytes
        as_bytes(key, "key", &k, &key_bytes)
        self.add(KIND_DELETE, k, <uint32_t>key_bytes, NULL, 0, 0)

    def delete_range(self, start, end):
        """Add a delete of [start, end); None is no bound."""
        cdef const uint8_t *s
        cdef const uint8_t *e = NULL
        cdef Py_ssize_t start_bytes, end_bytes = 0
        as_bytes(b"" if start is None else start, "start", &s, &start_bytes)
        if end is not None:
            as_bytes(end, "end", &e, &end_bytes)
            if end <= (b"" if start is None else start):
                return
        self.add_range(s, <uint32_t>start_bytes, e, <uint32_t>end_bytes, end is not None)

    def put_pairs(self, pairs, uint64_t bytes_max):
        """Add puts from an iterator until it ends or the batch takes `bytes_max`; True if it ended.

        Counted is what the pairs take in a memtable. The pair that passes the limit is still added.
        """
        cdef const uint8_t *k
        cdef const uint8_t *v
        cdef Py_ssize_t key_bytes, value_bytes
        for key, value in pairs:
            as_bytes(key, "key", &k, &key_bytes)
            as_bytes(value, "value", &v, &value_bytes)
            self.add(KIND_PUT, k, <uint32_t>key_bytes, v, <uint32_t>value_bytes, 0)
            if self.nbytes + self.count * <uint64_t>PAIR_OVERHEAD >= bytes_max:
                return False
        return True

    def clear(self):
        """Forget every operation."""
        self.nbytes = 0
        self.count = 0
        self.is_atomic = False
