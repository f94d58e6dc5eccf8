# cython: language_level=3, boundscheck=False, wraparound=False
"""Open a scan over a pinned version and hand its rows to Python one by one.

A row's objects are made when it is asked for: whoever drops each row before the next one gets the
same memory for all of them, out of Python's free lists, and it stays in the processor's cache.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy
from ferrisdb.kernel.client cimport Pin
from ferrisdb.kernel.merge cimport BATCH_ROWS, Row, Scan
from ferrisdb.kernel.space cimport Space

from ferrisdb import limits
from ferrisdb.errors import KeyTooLargeError, UsageError, WrongTypeError
from ferrisdb.keys import prefix_end

cdef enum:
    FIRST_ROWS = 16             # what a short scan never uses is not read either
    COUNT_ROWS = 65536          # counted between two looks at the pin

cdef Py_ssize_t KEY_BYTES_MAX = limits.KEY_BYTES_MAX
cdef Py_ssize_t KEYSPACE_PREFIX_BYTES_MAX = limits.KEYSPACE_PREFIX_BYTES_MAX


cdef bytes checked_key(Space owner, str what, object key):
    if not isinstance(key, bytes):
        raise WrongTypeError(f"{what} is bytes, not {type(key).__name__}")
    # Without a prefix it is a stored key.
    if len(<bytes>key) > KEY_BYTES_MAX + (0 if owner.prefix else KEYSPACE_PREFIX_BYTES_MAX):
        raise KeyTooLargeError(
            f"{what} has {len(<bytes>key)} bytes; at most {KEY_BYTES_MAX} are allowed")
    return <bytes>key


def bounds(Space owner not None, start, end, prefix):
    """Return [first, last) in stored keys, last None for no bound.

    Raises:  WrongTypeError, KeyTooLargeError, UsageError.
    """
    cdef bytes space = owner.prefix
    if prefix is not None:
        if start is not None or end is not None:
            raise UsageError("prefix excludes start and end: it is both")
        space = space + checked_key(owner, "prefix", prefix)
        return space, prefix_end(space)
    first = space if start is None else joined(space, checked_key(owner, "start", start))
    if end is None:
        return first, owner.behind
    return first, joined(space, checked_key(owner, "end", end))


cdef bytes joined(bytes a, bytes b):
    cdef Py_ssize_t n = PyBytes_GET_SIZE(a), m = PyBytes_GET_SIZE(b)
    cdef bytes both = PyBytes_FromStringAndSize(NULL, n + m)
    memcpy(PyBytes_AS_STRING(both), PyBytes_AS_STRING(a), n)
    memcpy(PyBytes_AS_STRING(both) + n, PyBytes_AS_STRING(b), m)
    return both


cpdef open_rows(Space owner, Pin pin, start, end, prefix, limit, bint reverse, bint keys_only):
    """Return an iterator over the rows of a range as they are now, or as a pin shows them.

    Shape:   [start, end) in user keys, or `prefix`; limit, rows at most or None; pin, a snapshot's,
             which stays; None: the rows get one of their own, taken now.
    Raises:  WrongTypeError, KeyTooLargeError, UsageError, TooManySnapshotsError,
             UnavailableError, CorruptionError.
    """
    cdef bint own = pin is None
    if owner is None:
        raise TypeError("a scan is of a key space")
    cdef int64_t left = -1
    cdef bytes first, last
    cdef list sources = [], found = []
    cdef Scan scan
    cdef Rows rows
    first, last = bounds(owner, start, end, prefix)
    if limit is not None:
        if not isinstance(limit, int) or limit < 0:
            raise UsageError(f"limit is a number of rows, 0 or more, not {limit!r}")
        left = min(limit, 1 << 62)
    if left == 0 or (last is not None and first >= last):
        return iter(())
    if own:
        owner.enter()
        pin = owner.attached.pinned()
    if not pin.is_ordered():
        pin = <Pin?>owner.attached._order(pin, own)
    try:
        pin.view.collect(first, last, pin.seq, sources, found)
        scan = Scan.__new__(Scan)
        scan.prefix_bytes = <uint32_t>len(owner.prefix)
        scan.reverse, scan.keys_only = reverse, keys_only
        scan.snapshot_seq, scan.now_us, scan.left = pin.seq, pin.now_us, left
        scan.begin(sources, found, first, last)
        rows = Rows.__new__(Rows)
        rows.pin, rows.scan, rows.release = pin, scan, own
        # A limit says how many will be wanted; else few are read first.
        rows.batch = FIRST_ROWS if left < 0 else BATCH_ROWS
        return rows
    except BaseException:
        if own:
            pin.let_go()
        raise


cdef class RangedSpace(Space):
    """A key space, the ranges of which can be read."""

    def scan(self, start=None, end=None, *, prefix=None, limit=None, bint reverse=False,
             bint keys_only=False):
        """Return an iterator over (key, value) in key order, or over keys.

        Shape:   [start, end) in both directions; prefix excludes start and end; limit, rows at
                 most. What it shows is the key space at the moment of the call.
        Raises:  WrongTypeError, UsageError, TooManySnapshotsError, UnavailableError,
                 KeyspaceDroppedError; SnapshotTooOldError, CorruptionError while iterating.
        """
        return open_rows(self, None, start, end, prefix, limit, reverse, keys_only)


@cython.final
cdef class Rows:
    """An iterator over (key, value), or keys, that holds its pin until the end.

    Shape:   scan, over what `pin` shows; release, whether the pin goes with the last row.
    Raises:  SnapshotTooOldError, ClosedError, CorruptionError, StorageError while iterating.
    Owner:   one thread.
    """

    def __iter__(self):
        return self

    cdef int _more(self) except -1:
        """Gather the next rows; 0: there are none, and the iteration has ended."""
        self.pin.check()
        self.count = self.at = 0
        if not self.scan.done:
            self.count = self.scan._gather(self.batch, True)
            self.batch = BATCH_ROWS
        if self.count:
            return 1
        # What a revoked pin showed may be of freed memory, and the end of the range with it.
        self.pin.check()
        self.close()
        return 0

    def __next__(self):
        cdef Scan scan = self.scan
        cdef Row *row
        cdef bytes key, value = None
        if scan is None or (self.at == self.count and not self._more()):
            raise StopIteration
        row = &scan.rows[self.at]
        self.at += 1
        if row.expires_us and (self.expiry_us == 0 or row.expires_us < self.expiry_us):
            self.expiry_us = row.expires_us
        key = scan.key_of(row)
        if not scan.keys_only:
            value = PyBytes_FromStringAndSize(<const char *>row.value, row.value_bytes)
        self.pin.check()
        if value is None:
            return key
        return (key, value)

    def count_rest(self):
        """Return how many rows are left, and end the iteration: O(rows), no row is built."""
        cdef int64_t total = self.count - self.at, found = 1
        cdef Scan scan = self.scan
        if scan is None:
            return 0
        while found and not scan.done:
            self.pin.check()
            with nogil:
                found = scan._gather(COUNT_ROWS, False)
            total += found
        self.pin.check()
        self.close()
        return total

    def close(self):
        """End the iteration and let the pin go; idempotent."""
        if self.scan is not None:
            self.scan = None
            if self.release:
                self.pin.let_go()
