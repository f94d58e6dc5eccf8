# The fast half of a transaction: point reads, puts and deletes, and their commit.
from libc.stdint cimport uint32_t, uint64_t

from ferrisdb.kernel.batch cimport BatchBuffer
from ferrisdb.kernel.client cimport Pin
from ferrisdb.kernel.space cimport Space

cdef class TxSpace:
    cdef readonly Space space
    cdef TxCore core            # None: it is the transaction itself
    cdef TxCore owner(self)

cdef class TxCore(TxSpace):
    cdef readonly Pin held      # None before the first read
    cdef readonly BatchBuffer batch
    cdef readonly dict points   # stored keys that were read, each with its expiry or 0
    cdef readonly list ranges   # read_set.RangeRead of each scan
    cdef public list savepoints
    cdef readonly uint64_t reads_bytes
    cdef uint64_t bytes_max
    # Of the batch, where the write that is being added began.
    cdef uint64_t begun_bytes
    cdef uint32_t begun_count
    cdef bint begun_atomic
    cdef uint64_t session
    cdef public uint64_t seq
    cdef readonly int durability
    cdef readonly bint is_serializable
    cdef readonly bint read_only
    cdef readonly bint done
    cdef int live(self) except -1
    cdef Pin pinned(self)
    cdef int begin_write(self, Space space) except -1
    cdef int end_write(self) except -1
    cdef tuple entry_of(self, Space space, object key)
    cdef int note(self, bytes stored, uint64_t expires_us) except -1
    cdef int check_reads(self) except -1
    cdef bytes point_checks(self, uint64_t *expiry_us)
    cdef int commit_points(self) except -1
    cdef void let_go(self)
