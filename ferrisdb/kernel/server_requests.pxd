# How a socket server goes through a connection's input.
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ferrisdb.kernel.resp cimport RespRequest
from ferrisdb.kernel.server_connections cimport Connection
from ferrisdb.kernel.server_hot cimport HotCommands

cdef class Requests(HotCommands):
    cdef RespRequest request    # of whoever is being served
    cdef int64_t _consume(self, Connection *conn, uint8_t *p, uint64_t n) except -1
    cdef uint64_t _rewind(self, Connection *conn, const uint8_t *p, RespRequest *request,
                          uint64_t *count) except? 0xFFFFFFFFFFFFFFFF
    cdef int _carry_out(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _ask(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _fault(self, Connection *conn, int fault, uint8_t found) except -1
    cdef void _set_aside(self, Connection *conn) noexcept
