# cython: language_level=3, boundscheck=False, wraparound=False
"""Encode puts and deletes into one buffer, in the form in which they are logged."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from ferrisdb.kernel.cpu cimport put_u32, put_u64
from ferrisdb.kernel.source cimport KIND_DELETE, KIND_PUT, KIND_RANGE_DELETE
from ferrisdb.kernel.wal cimport REQUEST_PUT_TTL, op_header_bytes

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


cdef int64_t ttl_us(object ttl) except -1:
    """Give a time to live in seconds as µs; None is 0, no expiry."""
    cdef double seconds
    if ttl is None:
        return 0
    if not isinstance(ttl, (int, float)):
        raise WrongTypeError(f"ttl is a number of seconds, not {type(ttl).__name__}")
    seconds = ttl
    if not 0 < seconds <= 1e10:
        raise UsageError(f"ttl={ttl} must be above 0 and at most 10,000,000,000 seconds")
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

    def __len__(self):
        return self.count

    @property
    def encoded_bytes(self):
        """Bytes of the operations as they will be logged."""
        return self.nbytes

    def encoded(self):
        """Return a copy of the encoded operations."""
        return (<const char *>self.base)[:self.nbytes] if self.nbytes else b""

    def put(self, key, value, ttl=None):
        """Add a put; `ttl` in seconds from the commit.

        Raises:  WrongTypeError, KeyTooLargeError, ValueTooLargeError, UsageError; nothing added.
        """
        cdef const uint8_t *k
        cdef const uint8_t *v
        cdef Py_ssize_t key_bytes, value_bytes
        cdef uint64_t expires = ttl_us(ttl)
        as_bytes(key, "key", &k, &key_bytes)
        as_bytes(value, "value", &v, &value_bytes)
        self.add(REQUEST_PUT_TTL if expires else KIND_PUT, k, <uint32_t>key_bytes, v,
                 <uint32_t>value_bytes, expires)

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
