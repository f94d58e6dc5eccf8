# The tables of one level as one source.
from libc.stdint cimport uint8_t, uint32_t
from ferrisdb.kernel.source cimport Source

cdef class Level(Source):
    cdef list tables, smallest, largest
    cdef Py_ssize_t count, index
    cdef Source inner           # over tables[index]; None before the first move
    cdef int _open(self, Py_ssize_t index) except -1 with gil
    cdef Py_ssize_t _first_reaching(self, const uint8_t *key, uint32_t key_bytes) except -1 with gil
    cdef Py_ssize_t _count_below(self, const uint8_t *key, uint32_t key_bytes) except -1 with gil
    cdef int _forward(self) except -1 nogil
    cdef int _backward(self) except -1 nogil
    cdef int _take(self) except -1 nogil
