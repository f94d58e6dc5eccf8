# The ports of all clients; base of the commit loop.
from libc.stdint cimport uint32_t, uint64_t

from ferrisdb.kernel.port cimport Port

cdef class PortTable:
    cdef list _views
    cdef Port *ports
    cdef uint32_t port_end      # ports at or above this index were never used
    cdef uint64_t generation
    cdef readonly uint64_t faults
    cdef bint _more(self) noexcept nogil
    cdef void _fault(self, uint32_t index) noexcept nogil
    cdef void _wake(self) noexcept nogil
