# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Keep the ports of the attached clients: who is served, what became of their requests.

Owner: the coordinator's main thread.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.cpu cimport (add32, fence_full, futex_wake, load32_relaxed, load64_acquire,
                                  store32_release, store64_release)
from ferrisdb.kernel.port cimport CODE_PROTOCOL, Outcome, Port

from ferrisdb.errors import ProtocolError, UsageError

cdef extern from "<unistd.h>" nogil:
    ssize_t write_fd "write"(int fd, const void *p, size_t n)

cdef enum:
    PORT_COUNT = 4096


cdef void ring_bell(Port *port) noexcept nogil:
    # Wake whoever sleeps in the client (R12); the caller has fenced behind what they wait for.
    cdef uint32_t sleeping = load32_relaxed(port.base + c.CLIENT_SLEEPING)
    cdef uint64_t one = 1
    if sleeping & c.CLIENT_IN_EPOLL and port.wake_fd >= 0:
        # Its only failure is that the counter is full: then the loop is awake.
        write_fd(port.wake_fd, &one, 8)
    if sleeping & ~<uint32_t>c.CLIENT_IN_EPOLL:
        add32(port.base + c.CLIENT_WAKE, 1)
        futex_wake(port.base + c.CLIENT_WAKE, 0x7FFFFFFF)


cdef class PortTable:
    """The ports, by the clients' index in the registry; base of `CommitLoop`."""

    def __cinit__(self, *args, **kwargs):
        self._views = [None] * PORT_COUNT
        self.ports = <Port *>calloc(PORT_COUNT, sizeof(Port))
        if self.ports == NULL:
            raise MemoryError()

    def __dealloc__(self):
        cdef uint32_t i
        if self.ports != NULL:
            for i in range(PORT_COUNT):
                free(self.ports[i].outcomes)
        free(self.ports)

    def add_port(self, uint32_t index, view, bytes client_id not None, outcomes=()):
        """Serve the client whose segment is `view`, from its own first unanswered request on.

        Shape:   index, its place in the registry; outcomes, (request_no, first_seq, count, reply)
                 of what an earlier generation committed for it and it may ask about.
        Raises:  ProtocolError if the segment is not that of a client.
        """
        cdef Port *port
        cdef Outcome *outcome
        cdef const uint8_t[::1] words = view
        cdef uint64_t request_no
        if index >= PORT_COUNT or len(client_id) != 16:
            raise UsageError("no such port")
        if words.shape[0] < c.CLIENT_BYTES:
            raise ProtocolError("the client's segment is too short")
        port = &self.ports[index]
        self.remove_port(index)
        port.outcomes = <Outcome *>calloc(c.COMPLETION_COUNT, sizeof(Outcome))
        if port.outcomes == NULL:
            raise MemoryError()
        port.base = <uint8_t *>&words[0]
        port.wake_fd = -1
        port.pos = load64_acquire(port.base + c.CLIENT_DONE_POS)
        port.next_no = 0
        port.known_max = 0
        port.unanswered_no = 0
        memcpy(port.client_id, PyBytes_AS_STRING(client_id), 16)
        for request_no, first_seq, count, reply in outcomes:
            outcome = &port.outcomes[request_no % c.COMPLETION_COUNT]
            if request_no <= outcome.request_no:
                continue
            outcome.request_no = request_no
            outcome.first_seq = first_seq
            outcome.count = count
            outcome.reply_bytes = <uint32_t>min(len(reply), 32)
            memcpy(outcome.reply, PyBytes_AS_STRING(reply), outcome.reply_bytes)
            port.known_max = max(port.known_max, request_no)
        self._views[index] = words
        port.live = True
        if index >= self.port_end:
            self.port_end = index + 1
        store32_release(port.base + c.CLIENT_ERROR, 0)
        store32_release(port.base + c.CLIENT_WAKES_FD, 0)
        store64_release(port.base + c.CLIENT_ATTACHED, self.generation)
        store32_release(port.base + c.CLIENT_WAKE, load32_relaxed(port.base + c.CLIENT_WAKE) + 1)
        futex_wake(port.base + c.CLIENT_WAKE, 0x7FFFFFFF)

    def remove_port(self, uint32_t index):
        """Stop serving the port; its segment may be unmapped afterwards."""
        if index >= PORT_COUNT:
            raise UsageError("no such port")
        self.ports[index].live = False
        self.ports[index].base = NULL
        self.ports[index].wake_fd = -1
        free(self.ports[index].outcomes)
        self.ports[index].outcomes = NULL
        self._views[index] = None

    def set_wake_fd(self, uint32_t index, int fd):
        """Wake the port's event loop by this eventfd from now on; -1: by none.

        The caller keeps it open until the port is removed, or has another; it is non-blocking.
        """
        if index >= PORT_COUNT or self.ports[index].base == NULL:
            raise UsageError("no such port")
        self.ports[index].wake_fd = fd
        store32_release(self.ports[index].base + c.CLIENT_WAKES_FD, fd >= 0)

    def outcomes(self):
        """Return (client_id, request_no, unanswered_no, first_seq, count, reply) still of use."""
        cdef uint32_t i, k
        cdef Port *port
        cdef Outcome *o
        found = []
        for i in range(self.port_end):
            port = &self.ports[i]
            if port.base == NULL:
                continue
            for k in range(c.COMPLETION_COUNT):
                o = &port.outcomes[k]
                if o.request_no and o.request_no >= port.unanswered_no:
                    found.append((<bytes>(<const char *>port.client_id)[:16], o.request_no,
                                  port.unanswered_no, o.first_seq, o.count,
                                  (<const char *>o.reply)[:o.reply_bytes]))
        return found

    def is_served(self, uint32_t index):
        """Tell whether the port is served: it was added, and sent nothing malformed since."""
        return index < PORT_COUNT and self.ports[index].live

    def has_requests(self):
        """Tell whether any ring holds a request."""
        return self._more()

    cdef bint _more(self) noexcept nogil:
        cdef uint32_t i
        for i in range(self.port_end):
            if self.ports[i].live and load64_acquire(
                    self.ports[i].base + c.CLIENT_TAIL) != self.ports[i].pos:
                return True
        return False

    cdef void _fault(self, uint32_t index) noexcept nogil:
        # The client breaks the agreement: it is not served until it attaches anew.
        cdef Port *port = &self.ports[index]
        port.live = False
        self.faults += 1
        if port.base != NULL:
            store32_release(port.base + c.CLIENT_ERROR, CODE_PROTOCOL)
            fence_full()
            ring_bell(port)

    cdef void _wake(self) noexcept nogil:
        cdef uint32_t i
        cdef Port *port
        fence_full()
        for i in range(self.port_end):
            port = &self.ports[i]
            if port.touched:
                port.touched = False
                if port.base != NULL:
                    ring_bell(port)
