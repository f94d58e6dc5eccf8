# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Carry out a connection's requests, one behind the other, as far as they go.

A request is done when its reply is written, or when the handler has it; or it is held: it stays in
the connection's input until what it waits for is there, and is parsed again then.

N1 to N5: server_connections.pyx. H1 to H3: server_hot.pyx. P1: resp.pyx.
"""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ferrisdb.kernel.resp cimport (BAD_TYPE, NOT_RESP, PARSE_MORE, PARSE_REQUEST, RespArg,
                                   RespLimits, RespRequest, begin_request, fault_text,
                                   output_bytes, parse_request)
from ferrisdb.kernel.server_connections cimport (CLOSING, DEAD, FAST, IN_COMMAND, METRIC_COMMANDS,
                                                 METRIC_REJECTED, REPLIED, STRANGER, WAIT_REPLY,
                                                 WAIT_WRITES, Connection)
from ferrisdb.kernel.server_hot cimport OUTCOME_ASK, OUTCOME_DONE, OUTCOME_HELD, HotCommands

cdef enum:
    SAVED_ARGS = 16             # of an incomplete request, above which it isn't parsed anew
    OUTPUT_PRESS = 256 << 10    # replies that are sent before more requests are carried out
    ARGS_KEPT = 1 << 14         # for how many arguments room is kept

INTERNAL_ERROR = b"-ERR internal error\r\n"


cdef class Requests(HotCommands):
    """The requests of `SocketServer`."""

    def __dealloc__(self):
        free(self.request.args)

    cdef int64_t consume(self, Connection *conn, uint8_t *p, uint64_t n) except -1:
        """Carry out the requests that begin at p, until one is not complete or has to wait."""
        cdef int64_t used = 0
        try:
            used = self._consume(conn, p, n)
        except Exception:
            self.report("a connection's requests")
            self.doom(conn)
        return used

    cdef int64_t _consume(self, Connection *conn, uint8_t *p, uint64_t n) except -1:
        cdef RespRequest *request
        cdef RespLimits limits
        cdef uint64_t at = 0, used, count = 0
        cdef int parsed
        limits.bulk_bytes_max = self.limits.request_bytes_max
        while conn.waits == 0 and not conn.flags & (DEAD | CLOSING) and at < n:
            if conn.writes and p[at] != c'*':
                # An inline request is unquoted in place: it is not parsed twice.
                conn.waits |= WAIT_WRITES
                break
            limits.stranger = conn.flags & STRANGER
            request = &self.request if conn.partial == NULL else conn.partial
            parsed = parse_request(p + at, n - at, request, &limits)
            if parsed == PARSE_MORE:
                self.answer_gets(conn)
                if self.rewound != NULL:
                    at = self._rewind(conn, p, request, &count)
                    continue
                if request != conn.partial and request.count > SAVED_ARGS:
                    self._set_aside(conn)
                elif request != conn.partial:
                    begin_request(request)
                break
            used = request.at
            if parsed != PARSE_REQUEST:
                self.answer_gets(conn)
                if conn.writes:
                    conn.waits |= WAIT_WRITES
                elif self.rewound == NULL:
                    self._fault(conn, parsed, p[at + used] if parsed == BAD_TYPE else 0)
                    at = n
            elif request.count == 0:
                at += used
            elif self._carry_out(conn, p + at, request) == OUTCOME_DONE:
                count += 1
                at += used
            begin_request(request)
            if request == conn.partial:
                free(request.args)
                free(request)
                conn.partial = NULL
            if at == n or conn.waits:
                self.answer_gets(conn)
            if self.rewound != NULL:
                at = self._rewind(conn, p, &self.request, &count)
            elif self.out.nbytes > OUTPUT_PRESS:
                self.press(conn)
        self._restore()
        conn.commands += count
        self.metrics[METRIC_COMMANDS] += count
        if self.request.room > ARGS_KEPT:
            free(self.request.args)
            memset(&self.request, 0, sizeof(RespRequest))
        return <int64_t>at

    cdef uint64_t _rewind(self, Connection *conn, const uint8_t *p, RespRequest *request,
                          uint64_t *count) except? 0xFFFFFFFFFFFFFFFF:
        """Go back to the first GET that was not answered; returns where it is."""
        cdef uint64_t at = <uint64_t>(self.rewound - p)
        self.rewound = NULL
        count[0] -= self.rewound_count
        begin_request(request)
        self.press(conn)
        return at

    cdef void _set_aside(self, Connection *conn) noexcept:
        """Keep how far an incomplete request of many arguments was parsed (P1)."""
        conn.partial = <RespRequest *>malloc(sizeof(RespRequest))
        if conn.partial == NULL:
            self.doom(conn)
            begin_request(&self.request)
            return
        conn.partial[0] = self.request
        memset(&self.request, 0, sizeof(RespRequest))

    cdef int _carry_out(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        """Carry out one request; OUTCOME_HELD: it stays in the input until it can go on."""
        cdef int outcome = OUTCOME_ASK
        if conn.flags & FAST and p[0] == c'*':
            outcome = self.hot(conn, p, request)
            if outcome != OUTCOME_ASK:
                return outcome
        self.answer_gets(conn)
        if self.rewound != NULL:
            return OUTCOME_HELD
        if conn.writes:
            conn.waits |= WAIT_WRITES
            return OUTCOME_HELD
        return self._ask(conn, p, request)

    cdef int _ask(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        """Have the handler carry out a request."""
        cdef const RespArg *arg
        cdef list args = []
        cdef uint32_t i
        cdef object reply = None
        cdef bint failed = False
        for i in range(request.count):
            arg = &request.args[i]
            args.append(PyBytes_FromStringAndSize(<const char *>p + arg.at, arg.nbytes))
        conn.flags |= IN_COMMAND
        try:
            reply = self.handler.command(conn.number, args)
            if reply is not None and not PyBytes_CheckExact(reply):
                raise TypeError(f"a reply is bytes, not {type(reply).__name__}")
        except Exception:
            self.report("a command")
            reply, failed = INTERNAL_ERROR, True
        finally:
            conn.flags &= ~<uint32_t>IN_COMMAND
        if reply is not None:
            if not output_bytes(self.out, <const char *><bytes>reply, PyBytes_GET_SIZE(reply)):
                self.doom(conn)
        elif not conn.flags & REPLIED:
            conn.waits |= WAIT_REPLY
        conn.flags &= ~<uint32_t>REPLIED
        if failed:
            conn.flags |= CLOSING
        return OUTCOME_DONE

    cdef int _fault(self, Connection *conn, int fault, uint8_t found) except -1:
        """Tell a client what is wrong with its bytes, and close the connection."""
        cdef bytes text = fault_text(fault, found)
        if fault == NOT_RESP:
            self.metrics[METRIC_REJECTED] += 1
        output_bytes(self.out, <const char *>text, PyBytes_GET_SIZE(text))
        conn.flags |= CLOSING
        return 0
