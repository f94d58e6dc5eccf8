# The socket server of one reader worker.
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ferrisdb.kernel.resp cimport RespRequest
from ferrisdb.kernel.server_connections cimport Connection
from ferrisdb.kernel.server_hot cimport HotCommands

cdef class SocketServer(HotCommands):
    cdef RespRequest request    # of whoever is being served
    cdef object posted          # what other threads want called
    cdef bint stopping
    cdef int64_t sweep_ns       # when connections are looked at next
    cdef int64_t _consume(self, Connection *conn, uint8_t *p, uint64_t n) except -1
    cdef uint64_t _rewind(self, Connection *conn, const uint8_t *p, RespRequest *request,
                          uint64_t *count) except? 0xFFFFFFFFFFFFFFFF
    cdef int _carry_out(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _ask(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _fault(self, Connection *conn, int fault, uint8_t found) except -1
    cdef void _set_aside(self, Connection *conn) noexcept
    cdef int _round(self) except -1
    cdef int _serve_ready(self) except -1
    cdef int _timeout_ms(self, int64_t deadline_ns) noexcept
    cdef int _sleep(self, int64_t deadline_ns) except -1
    cdef void _wake(self) noexcept
    cdef Connection *_of(self, uint64_t number) except NULL
