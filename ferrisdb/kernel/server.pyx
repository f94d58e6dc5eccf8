# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Serve Redis clients over sockets: the loop of a reader worker.

A round: epoll tells which sockets have something; each connection's requests are carried out, its
replies sent; what came together is pushed into the ring; answers that have come are told. Between
rounds the loop sleeps in epoll. The coordinator wakes it there by an eventfd.

Where many connections are busy and no commit is under way it naps before, for some microseconds and
not in epoll: whoever writes to a socket meanwhile need not wake it, which costs the writer as much
as its request, and what gathers is carried out in one round. Interrupt coalescing, as network cards
do it.

What a connection asks for is done in its order. Hot commands (server_hot.pyx) need no Python;
the others are the handler's (serving.py), which either replies at once or says that the reply comes
later; then the connection waits, and the others go on.

Invariants
    V1  The loop never waits for a commit, a lock or a socket; only for all of them together.
    V2  Before it sleeps with requests unanswered it raises its bit of CLIENT_SLEEPING, fences, and
        looks at the answers once more (R12 of shm/client.py).
    V3  Of another thread only `post` and `stop` may be called.

N1 to N5: server_connections.pyx. W1 to W4: server_commits.pyx. H1 to H3: server_hot.pyx. P1 and
P2: resp.pyx.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.cpu cimport add32, fence_full, futex_wait, load32_acquire, monotonic_ns
from ferrisdb.kernel.server_connections cimport (
    ADMITTED, CLOSING, DEAD, FAST, FILTERED, IN_COMMAND, KIND_TCP, KIND_TLS, KIND_UNIX,
    METRIC_BYTES_IN, METRIC_BYTES_OUT, METRIC_COMMANDS, METRIC_CONNECTED, METRIC_CONNECTIONS,
    METRIC_HITS, METRIC_MISSES, METRIC_REJECTED, READY, REPLIED, STRANGER, WAIT_REPLY, Connection)
from ferrisdb.kernel.server_requests cimport Requests
from ferrisdb.kernel.sockets cimport (EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLET, EPOLLIN, close_fd,
                                      epoll_control, epoll_event, epoll_wait, write_fd)

from collections import deque

from ferrisdb.errors import StorageError, UsageError

cdef enum:
    EVENTS_MAX = 256
    TAG_LISTENER = 1            # in the low bits of an event's tag; a connection's has none
    TAG_WAKE = 2
    NAP_EVENTS = 8              # of one round, that make a nap worth trying
    NAP_FOUND = 4               # events behind a nap that make it worth it
    NAP_NS_MIN = 10_000
    NAP_NS_MAX = 60_000

cdef int64_t SWEEP_NS = 1_000_000_000
cdef int64_t SIGNAL_NS = 1_000_000_000
cdef int64_t SWEEP_NS_MIN = 10_000_000

METRICS = {
    "connections_total": METRIC_CONNECTIONS,
    "connections_now": METRIC_CONNECTED,
    "commands_total": METRIC_COMMANDS,
    "bytes_in": METRIC_BYTES_IN,
    "bytes_out": METRIC_BYTES_OUT,
    "rejected_total": METRIC_REJECTED,
    "hits": METRIC_HITS,
    "misses": METRIC_MISSES,
}
"""A server's counters, and where each stands in its client's metrics row."""


cdef class SocketServer(Requests):
    """The sockets of one reader worker.

    Shape:   attached, the worker's handle; handler, serving.Handler; wake_fd, an eventfd, which
             the coordinator has, too; the limits are those of `set_limits`.
    Owner:   the thread that calls `run` (V3).
    """

    def __cinit__(self, attached, handler, *, int wake_fd, **limits):
        self.posted = deque()
        if epoll_control(self.epoll, EPOLL_CTL_ADD, wake_fd, EPOLLIN | EPOLLET, TAG_WAKE):
            raise StorageError(errno, "the wake fd is no eventfd")
        self.set_limits(**limits)

    def set_limits(self, *, connection_count_max=None, request_bytes_max=None,
                   output_bytes_max=None, input_bytes_max=None, idle_ns=None, partial_ns=None):
        """Set what is given of the limits; they hold from now on.

        Shape:   connection_count_max; request_bytes_max, of one argument; output_bytes_max, unsent
                 replies of one connection; input_bytes_max, incomplete or waiting requests of all
                 together; idle_ns, how long a connection may say nothing; partial_ns, how long a
                 request may take to arrive; 0 no limit for these two.
        """
        if connection_count_max is not None:
            self.limits.connection_count_max = connection_count_max
        if request_bytes_max is not None:
            self.limits.request_bytes_max = min(request_bytes_max, 1 << 30)
        if output_bytes_max is not None:
            self.limits.output_bytes_max = output_bytes_max
        if input_bytes_max is not None:
            self.limits.input_bytes_max = min(input_bytes_max, 1 << 31)
        if idle_ns is not None:
            self.limits.idle_ns = idle_ns
        if partial_ns is not None:
            self.limits.partial_ns = partial_ns
        self.sweep_ns = 0

    @property
    def counters(self):
        """Counters by name, from METRICS."""
        return {name: self.metrics[<int>index] for name, index in METRICS.items()}

    # Listening

    def listen(self, int fd, int kind):
        """Accept connections of a listening, non-blocking socket from now on.

        Shape:   kind, 0 Unix, 1 TCP, 2 TLS. The descriptor stays the caller's.
        """
        if kind not in (KIND_UNIX, KIND_TCP, KIND_TLS):
            raise UsageError(f"no such kind of socket: {kind}")
        self._stop_listening()
        self.listeners.append((fd, kind))
        self._listen_all()

    def unlisten(self, int fd):
        """Accept no more connections of a socket that `listen` was called with."""
        self._stop_listening()
        self.listeners = [pair for pair in self.listeners if pair[0] != fd]
        self._listen_all()

    def _stop_listening(self):
        if self.listening:
            for fd, _ in self.listeners:
                epoll_control(self.epoll, EPOLL_CTL_DEL, fd, 0, 0)

    # Connections

    cdef Connection *_of(self, uint64_t number) except NULL:
        cdef Connection *conn = self.find(number)
        if conn == NULL:
            raise UsageError(f"connection {number} is closed")
        return conn

    def configure(self, uint64_t conn, *, bint fast, int protocol, int durability,
                  bint authenticated):
        """Say how a connection is to be served; a closed one is ignored.

        Shape:   fast, hot commands are carried out without the handler; protocol, 2 or 3;
                 durability, DURABILITY_* of layout, of hot writes; authenticated, its requests may
                 have any size.
        """
        cdef Connection *found = self.find(conn)
        if found == NULL:
            return
        found.flags &= ~<uint32_t>(FAST | STRANGER)
        found.flags |= (FAST if fast else 0) | (0 if authenticated else STRANGER)
        found.protocol = <uint8_t>protocol
        found.durability = <uint8_t>(
            c.DURABILITY_SYNC if durability == c.DURABILITY_SYNC else c.DURABILITY_OS)

    def set_filter(self, uint64_t conn, lens):
        """Have a connection's bytes pass through a serving.Filter; in Handler.opened alone."""
        cdef Connection *found = self._of(conn)
        found.flags |= FILTERED
        self.filters[conn] = lens

    def reply(self, uint64_t conn, bytes data not None):
        """Answer the command that a connection waits for; its next commands go on."""
        cdef Connection *found = self.find(conn)
        if found == NULL:
            return
        if found.flags & IN_COMMAND:
            found.flags |= REPLIED
        elif not found.waits & WAIT_REPLY:
            raise UsageError(f"connection {conn} waits for no reply")
        found.waits &= ~WAIT_REPLY
        self.say(found, data)
        self.make_ready(found)

    def send(self, uint64_t conn, bytes data not None):
        """Send a connection something that it did not ask for; a closed one is ignored."""
        cdef Connection *found = self.find(conn)
        if found != NULL:
            self.say(found, data)

    def close(self, uint64_t conn, *, bint flush=True):
        """Close a connection: at once, or when it has read what it was told, at most 5 s later."""
        cdef Connection *found = self.find(conn)
        if found == NULL:
            return
        if flush:
            found.flags |= CLOSING
            self.make_ready(found)
        else:
            self.doom(found)

    def close_all(self, *, bint flush=True):
        """Close every connection, and accept none any more."""
        cdef uint32_t i
        self._stop_listening()
        self.listeners = []
        for i in range(self.live_count):
            self.close(self.live[i].number, flush=flush)

    def shut(self):
        """Close every connection at once, and the loop itself: it is not run any more."""
        self.close_all(flush=False)
        self.bury()
        if self.epoll >= 0:
            close_fd(self.epoll)
            self.epoll = -1

    def connections(self):
        """Return the numbers of the open connections, oldest first."""
        cdef uint32_t i
        return sorted(self.live[i].number for i in range(self.live_count)
                      if not self.live[i].flags & DEAD and self.live[i].flags & ADMITTED)

    def describe(self, uint64_t conn):
        """Return what is known of a connection; UsageError if it is closed."""
        cdef Connection *found = self._of(conn)
        return {
            "kind": found.kind,
            "fd": found.fd,
            "created_ns": found.created_ns,
            "active_ns": found.active_ns,
            "input_bytes": found.input_end - found.input_at,
            "output_bytes": found.output.nbytes - found.output.sent,
            "commands": found.commands,
        }

    # The loop

    def post(self, fn):
        """Have `fn` called in the loop's thread soon; from any thread."""
        self.posted.append(fn)
        self._wake()

    def stop(self):
        """Have `run` return soon; from any thread, and from a signal handler."""
        self.stopping = True
        self._wake()

    cdef void _wake(self) noexcept:
        cdef uint64_t one = 1
        write_fd(self.wake_fd, &one, 8)

    def run(self, int64_t deadline_ns):
        """Serve until the deadline (monotonic, ns) or `stop`.

        Raises:  UnavailableError and ProtocolError, when the coordinator is gone for good; what
                 a signal handler, or SystemExit and KeyboardInterrupt in the handler, raise.
        """
        self.current = NULL
        while True:
            self.now_ns = monotonic_ns()
            self._round()
            PyErr_CheckSignals()
            if self.stopping or self.now_ns >= deadline_ns:
                break
            self._sleep(deadline_ns)
        self.stopping = False

    cdef int _round(self) except -1:
        """Do everything that can be done without waiting."""
        cdef Py_ssize_t _i
        for _i in range(len(self.posted)):
            fn = self.posted.popleft()
            try:
                fn()
            except Exception:
                self.report("what was posted")
        self._serve_ready()
        self.push_all()
        if self.in_flight:
            self.take_answers()
            self._serve_ready()
            self.push_all()
            self.look_at_service()
        elif self.room_wanted:
            self._give_room()
        if self.now_ns >= self.sweep_ns or (
                not self.listening and self.now_ns >= self.listen_again_ns):
            self.sweep()
            self.sweep_ns = self.now_ns + self._sweep_period()
        if self.dead != NULL:
            self.bury()
        return 0

    def _sweep_period(self):
        cdef int64_t period = SWEEP_NS
        if self.limits.idle_ns:
            period = min(period, self.limits.idle_ns // 4)
        if self.limits.partial_ns:
            period = min(period, self.limits.partial_ns // 4)
        return max(period, SWEEP_NS_MIN)

    cdef int _serve_ready(self) except -1:
        """Serve the connections that can go on; those that become so meanwhile wait."""
        cdef uint32_t i, count = self.ready_count
        cdef Connection *conn
        for i in range(count):
            conn = self.ready[i]
            if conn != NULL:
                conn.flags &= ~<uint32_t>READY
                if not conn.flags & DEAD:
                    self.resume(conn)
        self.ready_count -= count
        for i in range(self.ready_count):
            self.ready[i] = self.ready[count + i]
        self.post_letters()
        return 0

    cdef int _timeout_ms(self, int64_t deadline_ns) noexcept:
        """How long there is nothing to do but wait for what epoll tells."""
        # A signal may come just before the sleep; its handler runs behind it.
        cdef int64_t until = min(deadline_ns, self.now_ns + SIGNAL_NS)
        cdef int durability
        if self.ready_count or self.dead != NULL or len(self.posted) or self.stopping:
            return 0
        for durability in range(c.DURABILITY_OS, c.DURABILITY_SYNC + 1):
            if self.gathers[durability].count and self.gathers[durability].in_flight == 0:
                return 0
        if self.live_count or not self.listening:
            until = min(until, self.sweep_ns)
        if not self.listening:
            until = min(until, self.listen_again_ns)
        if self.in_flight:
            # Without an eventfd nobody says that there are answers.
            until = min(until, self.now_ns + (100_000_000 if load32_acquire(
                self.attached.segment + c.CLIENT_WAKES_FD) else 1_000_000))
        elif self.room_wanted or len(self.queue) or self.has_gathered():
            until = min(until, self.now_ns + 1_000_000)
        if until <= self.now_ns:
            return 0
        return <int>min((until - self.now_ns + 999_999) // 1_000_000, <int64_t>3_600_000)

    cdef int _sleep(self, int64_t deadline_ns) except -1:
        """Wait for events, and do what they say."""
        cdef epoll_event events[EVENTS_MAX]
        cdef int timeout_ms = self._timeout_ms(deadline_ns), count = 0, i
        cdef uint64_t tag
        if timeout_ms > 0 and self.nap_ns and self.in_flight == 0:
            with nogil:
                count = self._nap(events)
        if count == 0:
            count = self._wait(events, timeout_ms)
        if count >= NAP_EVENTS and self.nap_ns == 0:
            self.nap_ns = NAP_NS_MIN
        self.now_ns = monotonic_ns()
        self.event_count = <uint32_t>max(count, 0)
        if count < 0 and errno != EINTR:
            raise StorageError(errno, "epoll failed")
        for i in range(count):
            tag = events[i].data.u64
            if tag & TAG_LISTENER:
                fd, kind = self.listeners[tag >> 3]
                self._accept(fd, kind)
            elif tag != TAG_WAKE:
                self.on_event(<Connection *><size_t>tag, events[i].events)
        self.post_letters()
        return 0

    cdef int _wait(self, epoll_event *events, int timeout_ms) except? -1:
        """Sleep in epoll; returns how many events it tells, -1 on an error."""
        cdef bint flagged = self.in_flight > 0 and timeout_ms > 0
        cdef int count
        if flagged:
            add32(self.attached.segment + c.CLIENT_SLEEPING, c.CLIENT_IN_EPOLL)     # V2
            fence_full()
            if self.has_answers():
                timeout_ms = 0
        with nogil:
            count = epoll_wait(self.epoll, events, EVENTS_MAX, timeout_ms)
        if flagged:
            add32(self.attached.segment + c.CLIENT_SLEEPING, -<uint32_t>c.CLIENT_IN_EPOLL)
        return count

    cdef int _nap(self, epoll_event *events) noexcept nogil:
        """Let requests gather if none is there yet; returns how many events there are then.

        A nap behind which there is little makes the next ones shorter, down to none.
        """
        cdef uint32_t word = 0
        cdef int count = epoll_wait(self.epoll, events, EVENTS_MAX, 0)
        if count != 0:
            return count
        futex_wait(&word, 0, self.nap_ns)
        count = epoll_wait(self.epoll, events, EVENTS_MAX, 0)
        if count >= NAP_FOUND:
            self.nap_ns = min(self.nap_ns + self.nap_ns // 4, <int64_t>NAP_NS_MAX)
        elif count < NAP_FOUND // 2:
            self.nap_ns = self.nap_ns // 2 if self.nap_ns >= 2 * NAP_NS_MIN else 0
        return count
