# The socket server of one reader worker.
from libc.stdint cimport int64_t, uint64_t

from ferrisdb.kernel.server_connections cimport Connection
from ferrisdb.kernel.server_requests cimport Requests
from ferrisdb.kernel.sockets cimport epoll_event

cdef class SocketServer(Requests):
    cdef object posted          # what other threads want called
    cdef bint stopping
    cdef int64_t sweep_ns       # when connections are looked at next
    cdef int64_t nap_ns         # how long to let requests gather; 0: not at all
    cdef int _round(self) except -1
    cdef int _serve_ready(self) except -1
    cdef int _timeout_ms(self, int64_t deadline_ns) noexcept
    cdef int _sleep(self, int64_t deadline_ns) except -1
    cdef int _wait(self, epoll_event *events, int timeout_ms) except? -1
    cdef int _nap(self, epoll_event *events) noexcept nogil
    cdef void _wake(self) noexcept
    cdef Connection *_of(self, uint64_t number) except NULL
