# The rows of a scan as a Python iterator.
from libc.stdint cimport int64_t, uint64_t
from ferrisdb.kernel.client cimport Pin
from ferrisdb.kernel.merge cimport Scan
from ferrisdb.kernel.space cimport Space

cpdef open_rows(Space owner, Pin pin, start, end, prefix, limit, bint reverse, bint keys_only)

cdef class RangedSpace(Space):
    pass

cdef class Rows:
    cdef Pin pin
    cdef Scan scan              # None: ended
    cdef bint release
    cdef int64_t count, at, batch
    cdef readonly uint64_t expiry_us    # the earliest expiry of the rows so far; 0: none has one
    cdef int _more(self) except -1
