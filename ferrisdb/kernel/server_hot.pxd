# The commands that a socket server carries out without Python.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.readview cimport LOOKUP_WINDOW, Probe
from ferrisdb.kernel.resp cimport RespArg, RespRequest
from ferrisdb.kernel.server_commits cimport Commits, FlightKind
from ferrisdb.kernel.server_connections cimport Connection
from ferrisdb.kernel.source cimport Hit

cdef enum:
    OUTCOME_DONE = 0
    OUTCOME_HELD = 1            # it waits, in its connection's input
    OUTCOME_ASK = 2             # Python is to carry it out

cdef class HotCommands(Commits):
    # GETs that were parsed and are to be looked up together; the byte before each key is 0.
    cdef Probe probes[LOOKUP_WINDOW]
    cdef uint32_t probe_count
    cdef uint8_t *asked[LOOKUP_WINDOW]  # the requests that they are
    cdef uint8_t *rewound       # the first of those that were parsed in vain; NULL: none
    cdef uint32_t rewound_count
    cdef int hot(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _get(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _put(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _mget(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _exists(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _delete(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1
    cdef int _add(self, Connection *conn, uint8_t *p, const RespRequest *request,
                  int sign) except -1
    cdef int _push_atomics(self, Connection *conn, const RespRequest *request,
                           FlightKind kind, uint64_t generation, uint64_t seq,
                           int operation, const uint8_t *operand, uint32_t operand_bytes,
                           const Hit *hints) except -1
    cdef int _probe(self, uint8_t *p, const RespArg *arg) noexcept
    cdef bint _probe_all(self, uint8_t *p, const RespRequest *request) noexcept
    cdef bint _lives(self, const Probe *probe) noexcept
    cdef int _restore(self) noexcept
    cdef int answer_gets(self, Connection *conn) except -1
    cdef int _look_up(self, uint64_t *seq) except -1
    cdef int _fail(self, uint64_t mark, uint32_t times, object error) except -1
    cdef bint _tell_found(self, Connection *conn, uint32_t count) noexcept
    cdef uint32_t _fitting(self) noexcept
    cdef int64_t _count_found(self) noexcept
