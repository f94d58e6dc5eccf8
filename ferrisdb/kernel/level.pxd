# The tables of one level as one source.
from libc.stdint cimport uint8_t, uint32_t
from ferrisdb.kernel.run cimport TableRun
from ferrisdb.kernel.source cimport Source

cdef class Level(Source):
    cdef TableRun run
    cdef uint32_t index         # of the table that `inner` is over
    cdef Source inner           # None before the first move
    cdef int _open(self, uint32_t index) except -1 with gil
    cdef int _forward(self) except -1 nogil
    cdef int _backward(self) except -1 nogil
    cdef int _take(self) except -1 nogil
