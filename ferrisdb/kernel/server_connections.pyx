# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Keep a server's connections: accept them, take their bytes in and out, close them.

Long because whatever sends, blocks or closes works on one record of a connection.

A connection that is idle is a record of two hundred bytes. Input is read into one buffer that all
share, and parsed there; a connection has a buffer of its own only for a request that is not
complete or that waits. Output is written to one shared buffer and sent from there when all that
epoll has told of has been dealt with; what a socket does not take is kept.

Invariants
    N1  What a connection is told is in the order of its requests: of `shared_output` and its own
        `output` only one, the one that `out` shows, is added to while it is served. What waits in
        `letters` is sent, or kept, before anything is added to any connection's own output.
    N2  A record is given back by `bury` alone, between rounds, so a pointer to one stays good for
        a round, and with its number beside it for ever.
    N3  Python is called with no pin held, and with the record's fields as they are to be seen: it
        may close any connection, reply, and send.
    N4  While a connection waits, its input is not read; a hang-up that epoll would report again
        and again then takes it out of epoll.
    N5  What a client makes the server keep is bounded: its input by the request's limit and
        `input_bytes_max` of all together, its output by `output_bytes_max`; above OUTPUT_SOFT none
        of its requests is carried out.

    N6  Epoll tells once of what is there to be read (EPOLLET): told of every time, a connection is
        polled twice for each of its requests. A read that may not have emptied the socket, or
        behind which a hang-up waits, therefore has epoll tell again (`_arm`).

Source: edge-triggered epoll in the way of nginx; EPOLLEXCLUSIVE for what several workers listen on.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.client cimport Attachment
from ferrisdb.kernel.cpu cimport monotonic_ns
from ferrisdb.kernel.resp cimport Output, output_bytes, output_free, output_number
from ferrisdb.kernel.sockets cimport (EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR,
                                      EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLOUT,
                                      EPOLLRDHUP, accept_socket, close_fd, epoll_control,
                                      epoll_create, keep_alive, receive_some, send_some)

import logging

from ferrisdb.errors import StorageError

cdef enum:
    CHUNK = 128                     # records that are allocated at once
    ACCEPTS_MAX = 4                 # at a time, so that other workers get some
    INPUT_SHARED = 1 << 16
    INPUT_MIN = 1 << 14             # read at once into a connection's own buffer
    OUTPUT_SOFT = 1 << 20           # unsent bytes above which a connection waits
    OUTPUT_KEPT = 1 << 20           # room that the shared buffer keeps
    LETTERS_BYTES = 1 << 17         # so much of it is not kept until the round's end

cdef int64_t SECOND_NS = 1_000_000_000
cdef int64_t LINGER_NS = 5 * SECOND_NS      # what is to be closed has so long to read the rest
cdef int64_t LISTEN_PAUSE_NS = 100_000_000  # where there is no descriptor left

_log = logging.getLogger("ferrisdb.server")

FULL = b"-ERR max number of clients reached\r\n"


cdef class Connections:
    """The connections of one worker; base of `SocketServer`.

    Owner:   the thread that runs the server's loop.
    """

    def __cinit__(self, Attachment attached not None, handler, *args, int wake_fd, **limits):
        self.attached, self.handler = attached, handler
        self.wake_fd, self.epoll = wake_fd, -1
        self.metrics = attached.metrics
        self.by_number, self.filters, self.listeners = {}, {}, []
        self.next_number = 1
        self.listening = True
        self.now_ns = monotonic_ns()
        self.limits.connection_count_max = 10_000
        self.limits.request_bytes_max = 32 << 20
        self.limits.output_bytes_max = 256 << 20
        self.limits.input_bytes_max = 256 << 20
        self.shared_input = <uint8_t *>malloc(INPUT_SHARED)
        if self.shared_input == NULL:
            raise MemoryError()
        self.epoll = epoll_create()
        if self.epoll < 0:
            raise StorageError(errno, "no epoll")

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.live_count):
            close_fd(self.live[i].fd)
            self._release(self.live[i])
        for i in range(self.chunk_count):
            free(self.chunks[i])
        free(self.chunks)
        free(self.live)
        free(self.ready)
        free(self.shared_input)
        output_free(&self.shared_output)
        if self.epoll >= 0:
            close_fd(self.epoll)

    cdef int report(self, str what) except -1:
        _log.exception("%s", what)
        return 0

    # Records

    cdef Connection *find(self, uint64_t number) noexcept:
        """Return an open connection, NULL if there is none of this number."""
        cdef object address = self.by_number.get(number)
        if address is None:
            return NULL
        cdef Connection *conn = <Connection *><size_t>address
        return NULL if conn.flags & DEAD else conn

    cdef Connection *_allocate(self) except NULL:
        cdef Connection *chunk
        cdef void *grown
        cdef uint32_t i
        if self.unused == NULL:
            grown = realloc(self.chunks, (self.chunk_count + 1) * sizeof(Connection *))
            if grown == NULL:
                raise MemoryError()
            self.chunks = <Connection **>grown
            chunk = <Connection *>calloc(CHUNK, sizeof(Connection))
            if chunk == NULL:
                raise MemoryError()
            self.chunks[self.chunk_count] = chunk
            self.chunk_count += 1
            for i in range(CHUNK):
                chunk[i].next = self.unused
                self.unused = &chunk[i]
        if self.live_count == self.live_room:
            grown = realloc(self.live, (2 * self.live_room + CHUNK) * sizeof(Connection *))
            if grown == NULL:
                raise MemoryError()
            self.live = <Connection **>grown
            self.live_room = 2 * self.live_room + CHUNK
        chunk = self.unused
        self.unused = chunk.next
        chunk.next = NULL
        return chunk

    cdef void _release(self, Connection *conn) noexcept:
        self.drop_input(conn)
        output_free(&conn.output)

    cdef void doom(self, Connection *conn) noexcept:
        """Close the connection at the round's end (N2)."""
        if conn.flags & DEAD:
            return
        conn.flags |= DEAD
        conn.next = self.dead
        self.dead = conn

    cdef int bury(self) except -1:
        """Close what is doomed, and tell the handler."""
        cdef Connection *conn
        cdef uint64_t number
        cdef uint32_t flags, i
        if self.letter_count:
            self.post_letters()
        while self.dead != NULL:
            conn = self.dead
            self.dead = conn.next
            number, flags = conn.number, conn.flags
            # By name too: a forked child may hold the socket open.
            if not flags & DETACHED:
                epoll_control(self.epoll, EPOLL_CTL_DEL, conn.fd, 0, 0)
            close_fd(conn.fd)
            self._release(conn)
            self.live_count -= 1
            self.live[conn.place] = self.live[self.live_count]
            self.live[conn.place].place = conn.place
            if flags & READY:
                for i in range(self.ready_count):
                    if self.ready[i] == conn:
                        self.ready[i] = NULL
            memset(conn, 0, sizeof(Connection))
            conn.next = self.unused
            self.unused = conn
            self.metrics[METRIC_CONNECTED] = self.live_count
            del self.by_number[number]
            if flags & FILTERED:
                del self.filters[number]
            if flags & ADMITTED:
                try:
                    self.handler.closed(number)
                except Exception:
                    self.report("a connection's end")
        return 0

    cdef int make_ready(self, Connection *conn) except -1:
        """Have the connection served in this round, or the next one."""
        cdef void *grown
        if conn.flags & (READY | DEAD):
            return 0
        if self.ready_count == self.ready_room:
            grown = realloc(self.ready, (2 * self.ready_room + CHUNK) * sizeof(Connection *))
            if grown == NULL:
                raise MemoryError()
            self.ready = <Connection **>grown
            self.ready_room = 2 * self.ready_room + CHUNK
        self.ready[self.ready_count] = conn
        self.ready_count += 1
        conn.flags |= READY
        return 0

    # Accepting

    cdef int _listen_all(self) except -1:
        cdef Py_ssize_t i
        self.listening = True
        for i in range(len(self.listeners)):
            fd = self.listeners[i][0]
            if epoll_control(self.epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE,
                             (<uint64_t>i << 3) | 1):
                raise StorageError(errno, "can't listen")
        return 0

    cdef int _pause_listening(self) except -1:
        """Look away from new connections, for which there is no descriptor, for a moment."""
        self.listening = False
        self.listen_again_ns = self.now_ns + LISTEN_PAUSE_NS
        for fd, _ in self.listeners:
            epoll_control(self.epoll, EPOLL_CTL_DEL, fd, 0, 0)
        return 0

    cdef int _accept(self, int fd, int kind) except -1:
        """Take a few connections that wait to be accepted."""
        cdef int _i, accepted
        for _i in range(ACCEPTS_MAX):
            accepted = accept_socket(fd)
            if accepted >= 0:
                self._admit(accepted, kind)
            elif errno == EAGAIN:
                break
            elif errno != EINTR and errno != ECONNABORTED:
                self._pause_listening()
                return 0
        # To the end of the queue of those who are woken for this socket: workers take turns.
        index = self.listeners.index((fd, kind))
        epoll_control(self.epoll, EPOLL_CTL_DEL, fd, 0, 0)
        if epoll_control(self.epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE,
                         (<uint64_t>index << 3) | 1):
            raise StorageError(errno, "can't listen")
        return 0

    cdef int _admit(self, int fd, int kind) except -1:
        cdef Connection *conn
        if self.live_count >= self.limits.connection_count_max:
            self._refuse(fd, kind)
            return 0
        conn = self._allocate()
        conn.number = self.next_number
        self.next_number += 1
        conn.fd, conn.kind, conn.flags = fd, <uint8_t>kind, STRANGER
        conn.protocol, conn.durability = 2, c.DURABILITY_OS
        conn.created_ns = conn.active_ns = self.now_ns
        conn.place = self.live_count
        conn.interest = EPOLLIN
        self.live[conn.place] = conn
        self.live_count += 1
        self.by_number[conn.number] = <size_t>conn
        self.metrics[METRIC_CONNECTIONS] += 1
        self.metrics[METRIC_CONNECTED] = self.live_count
        if kind != KIND_UNIX:
            keep_alive(fd)
        if self._arm(conn, EPOLL_CTL_ADD):
            conn.flags |= DETACHED
            self.doom(conn)
            return 0
        try:
            if self.handler.opened(conn.number, fd, kind):
                conn.flags |= ADMITTED
            else:
                self.metrics[METRIC_REJECTED] += 1
                self.doom(conn)
        except Exception:
            self.report("a connection's begin")
            self.doom(conn)
        return 0

    cdef void _refuse(self, int fd, int kind) noexcept:
        self.metrics[METRIC_REJECTED] += 1
        if kind != KIND_TLS:
            send_some(fd, PyBytes_AS_STRING(FULL), PyBytes_GET_SIZE(FULL))
        close_fd(fd)

    # Sending

    cdef int begin(self, Connection *conn) noexcept:
        """Serve this connection from here on: what is put into `out` is for it (N1)."""
        self.current = conn
        self.out = &self.shared_output
        self.out_begin = self.shared_output.nbytes
        if conn.output.nbytes and not conn.flags & FILTERED:
            self.out = &conn.output
        return 0

    cdef int finish(self, Connection *conn) except -1:
        """Have what the connection was told since `begin` sent, at the round's end or before."""
        cdef uint64_t nbytes = self.shared_output.nbytes - self.out_begin
        cdef Letter *letter
        self.current = NULL
        if conn.flags & DEAD:
            self.shared_output.nbytes = self.out_begin
            return 0
        if nbytes and not conn.flags & FILTERED:
            letter = &self.letters[self.letter_count]
            letter.conn, letter.at, letter.nbytes = conn, self.out_begin, nbytes
            self.letter_count += 1
            if self.letter_count == LETTER_COUNT or self.shared_output.nbytes > LETTERS_BYTES:
                self.post_letters()
            return 0
        if nbytes:
            self._emit(conn, self.out_begin, nbytes)
            self.shared_output.nbytes = self.out_begin
        elif conn.output.nbytes and not conn.interest & EPOLLOUT:
            self._drain(conn)
        elif conn.flags & (CLOSING | ENDED) and self.letter_count:
            self.post_letters()                             # one may be for it
        return self.settle(conn)

    cdef int post_letters(self) except -1:
        """Send what connections were told in this round.

        Together, so that a client with many of them is woken once and finds them all.
        """
        cdef uint32_t i, count = self.letter_count
        cdef Letter *letter
        self.letter_count = 0
        for i in range(count):
            letter = &self.letters[i]
            if not letter.conn.flags & DEAD:
                self._emit(letter.conn, letter.at, letter.nbytes)
                self.settle(letter.conn)
        if self.current == NULL:
            self.shared_output.nbytes = 0
            if self.shared_output.room > OUTPUT_KEPT:
                output_free(&self.shared_output)
        return 0

    cdef int _emit(self, Connection *conn, uint64_t at, uint64_t nbytes) except -1:
        """Send a part of the shared output; what the socket does not take is kept."""
        cdef const uint8_t *p = self.shared_output.base + at
        cdef int64_t sent = 0
        cdef bytes raw
        if conn.flags & FILTERED:
            try:
                raw = self.filters[conn.number].sending(
                    PyBytes_FromStringAndSize(<const char *>p, nbytes))
            except Exception:
                raw = b""
                self.doom(conn)
            if not output_bytes(&conn.output, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw)):
                self.doom(conn)
            elif not conn.interest & EPOLLOUT:
                self._drain(conn)
        else:
            if conn.output.nbytes == 0:
                sent = self._send(conn, p, nbytes)
            if <uint64_t>sent < nbytes and not output_bytes(&conn.output, p + sent, nbytes - sent):
                self.doom(conn)
        return 0

    cdef int64_t _send(self, Connection *conn, const uint8_t *p, uint64_t n) noexcept:
        """Send some bytes; returns how many are done with."""
        cdef ssize_t sent
        if conn.flags & DEAF:
            return n
        sent = send_some(conn.fd, p, n)
        if sent >= 0:
            self.metrics[METRIC_BYTES_OUT] += <uint64_t>sent
            return sent
        if errno == EAGAIN or errno == EINTR:
            return 0
        # What it had sent before it left is still done.
        conn.flags |= DEAF
        return n

    cdef int _drain(self, Connection *conn) noexcept:
        """Send what is kept, as far as the socket takes it."""
        cdef Output *output = &conn.output
        cdef int64_t sent = self._send(conn, output.base + output.sent,
                                       output.nbytes - output.sent)
        output.sent += <uint64_t>sent
        if sent:
            conn.active_ns = self.now_ns
        if output.sent == output.nbytes:
            output_free(output)
        return 0

    cdef int press(self, Connection *conn) except -1:
        """Send what has come together, while the connection is being served (N5)."""
        self.post_letters()
        if self.out == &self.shared_output:
            self._emit(conn, self.out_begin, self.shared_output.nbytes - self.out_begin)
            self.shared_output.nbytes = self.out_begin = 0
            if conn.output.nbytes and not conn.flags & FILTERED:
                self.out = &conn.output
        if conn.output.nbytes - conn.output.sent > OUTPUT_SOFT:
            conn.waits |= WAIT_OUTPUT
        return 0

    cdef int settle(self, Connection *conn) except -1:
        """Close the connection if that is due; else have epoll tell what it waits for."""
        cdef uint64_t unsent = conn.output.nbytes - conn.output.sent
        if conn.flags & DEAD:
            return 0
        if unsent > self.limits.output_bytes_max:
            self.doom(conn)
            return 0
        if unsent > OUTPUT_SOFT:
            conn.waits |= WAIT_OUTPUT
        elif conn.waits & WAIT_OUTPUT and 2 * unsent <= OUTPUT_SOFT:
            conn.waits &= ~WAIT_OUTPUT
            self.make_ready(conn)
        if conn.flags & (CLOSING | ENDED):
            if unsent == 0 and not conn.flags & READY and (
                    conn.flags & CLOSING or (conn.waits == 0 and conn.writes == 0)):
                self.doom(conn)
                return 0
            if conn.close_by_ns == 0 and (conn.flags & CLOSING or unsent):
                conn.close_by_ns = self.now_ns + LINGER_NS
        self.watch(conn)
        return 0

    cdef void watch(self, Connection *conn) noexcept:
        """Tell epoll what is of interest. That nothing is read is told only when something came."""
        cdef uint32_t wanted = EPOLLOUT if conn.output.nbytes else 0
        if not conn.flags & (CLOSING | ENDED):
            wanted |= EPOLLIN if conn.waits == 0 else conn.interest & EPOLLIN
        if conn.flags & DETACHED:
            if conn.waits or conn.writes:
                return
            conn.flags &= ~<uint32_t>DETACHED
            conn.interest = wanted
            if self._arm(conn, EPOLL_CTL_ADD):
                conn.flags |= DETACHED
                self.doom(conn)
        elif wanted != conn.interest:
            conn.interest = wanted
            self._arm(conn, EPOLL_CTL_MOD)

    cdef int _arm(self, Connection *conn, int operation) noexcept:
        """Have epoll tell of what is of interest, at once if it is there already (N6)."""
        cdef uint32_t events = conn.interest | EPOLLET
        if conn.interest & EPOLLIN:
            events |= EPOLLRDHUP
        return epoll_control(self.epoll, operation, conn.fd, events, <uint64_t><size_t>conn)

    cdef int say(self, Connection *conn, bytes text) except -1:
        """Tell the connection something, in its turn if it is being served."""
        cdef Output *output
        if conn.flags & (DEAD | CLOSING) or not text:
            return 0
        if conn == self.current:
            output = self.out
        else:
            if self.letter_count:
                self.post_letters()                         # N1
            output = &conn.output
            if conn.flags & FILTERED:
                try:
                    text = self.filters[conn.number].sending(text)
                except Exception:
                    self.doom(conn)
                    return 0
            self.make_ready(conn)
        if not output_bytes(output, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)):
            self.doom(conn)
        return 0

    # Receiving

    cdef int on_event(self, Connection *conn, uint32_t events) except -1:
        """Do what epoll says can be done."""
        if conn.flags & DEAD or conn.number == 0:
            return 0
        if events & EPOLLOUT and conn.output.nbytes:
            self._drain(conn)
            self.settle(conn)
            if conn.flags & DEAD:
                return 0
        if conn.waits or conn.flags & (CLOSING | ENDED):
            if events & (EPOLLERR | EPOLLHUP):
                # N4. Nobody reads any more; but what was asked for is still to be done.
                if conn.flags & CLOSING or not (conn.waits or conn.writes):
                    self.doom(conn)
                else:
                    epoll_control(self.epoll, EPOLL_CTL_DEL, conn.fd, 0, 0)
                    conn.flags |= DETACHED
                    conn.interest = 0
            elif conn.interest & EPOLLIN:
                conn.interest &= ~EPOLLIN
                self._arm(conn, EPOLL_CTL_MOD)
            return 0
        if events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP):
            self.unread = events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP) != 0
            self._receive(conn)
            if self.unread and not conn.flags & (DEAD | ENDED | DETACHED):
                self._arm(conn, EPOLL_CTL_MOD)
        return 0

    cdef int64_t _read(self, Connection *conn, uint8_t *to, uint64_t room) noexcept:
        """Read once; returns how many bytes came, 0: none will, or not now."""
        cdef ssize_t n = receive_some(conn.fd, to, room)
        if n > 0:
            conn.active_ns = self.now_ns
            self.metrics[METRIC_BYTES_IN] += <uint64_t>n
            if <uint64_t>n == room:
                self.unread = True
            return n
        if n == 0:
            conn.flags |= ENDED
        elif errno == EINTR:
            self.unread = True
        elif errno != EAGAIN:
            self.doom(conn)
        return 0

    cdef int _receive(self, Connection *conn) except -1:
        cdef int64_t n
        if conn.flags & FILTERED:
            n = self._read(conn, self.shared_input, INPUT_SHARED)
            if n > 0:
                self._receive_filtered(conn, self.shared_input, <uint64_t>n)
        elif conn.input_end == 0:
            return self._receive_shared(conn)
        else:
            return self._receive_own(conn)
        return self.settle(conn)

    cdef int _receive_shared(self, Connection *conn) except -1:
        """Read into the shared buffer and parse there; keep what is left."""
        cdef int64_t n = self._read(conn, self.shared_input, INPUT_SHARED), used
        if n == 0:
            return self.settle(conn)
        self.begin(conn)
        used = self.consume(conn, self.shared_input, <uint64_t>n)
        if used < n and not conn.flags & (CLOSING | DEAD):
            self.keep_input(conn, self.shared_input + used, <uint64_t>(n - used))
        self._note_partial(conn, used > 0)
        return self.finish(conn)

    cdef int _receive_own(self, Connection *conn) except -1:
        """Read more of a request that is not complete."""
        cdef int64_t n
        if not self._input_room(conn, INPUT_MIN):
            return 0
        n = self._read(conn, conn.input + conn.input_end, conn.input_room - conn.input_end)
        if n == 0:
            return self.settle(conn)
        conn.input_end += <uint32_t>n
        return self.resume(conn)

    cdef int _receive_filtered(self, Connection *conn, const uint8_t *raw, uint64_t n) except -1:
        cdef bytes plain = b"", own = b""
        lens = self.filters[conn.number]
        try:
            plain = lens.received(PyBytes_FromStringAndSize(<const char *>raw, n))
            own = lens.pending()
        except Exception:
            # What it has to say of that may still go out.
            conn.flags |= CLOSING
            try:
                own = lens.pending()
            except Exception:
                pass
        if own and not output_bytes(&conn.output, PyBytes_AS_STRING(own), PyBytes_GET_SIZE(own)):
            self.doom(conn)
            return 0
        if conn.output.nbytes and not conn.interest & EPOLLOUT:
            self._drain(conn)
        if plain and not conn.flags & (CLOSING | DEAD) and self.keep_input(
                conn, <const uint8_t *>PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain)):
            return self.resume(conn)
        return 0

    cdef int keep_input(self, Connection *conn, const uint8_t *p, uint64_t n) noexcept:
        """Add bytes to the connection's own input; False: there is no more room, it is doomed."""
        if not self._input_room(conn, n):
            return False
        memcpy(conn.input + conn.input_end, p, n)
        conn.input_end += <uint32_t>n
        return True

    cdef int _input_room(self, Connection *conn, uint64_t more) noexcept:
        """Make room for more own input (N5)."""
        cdef uint64_t held = conn.input_end - conn.input_at, room
        cdef void *grown
        if conn.input_room - conn.input_end >= more:
            return True
        if conn.input_at:
            memmove(conn.input, conn.input + conn.input_at, held)
            conn.input_at, conn.input_end = 0, <uint32_t>held
            if conn.input_room - held >= more:
                return True
        room = max(held + more, min(2 * held, held + (8 << 20)))
        if self.input_bytes - conn.input_room + room > self.limits.input_bytes_max:
            self.metrics[METRIC_REJECTED] += 1
            self.doom(conn)
            return False
        grown = realloc(conn.input, room)
        if grown == NULL:
            self.doom(conn)
            return False
        self.input_bytes += room - conn.input_room
        conn.input, conn.input_room = <uint8_t *>grown, <uint32_t>room
        return True

    cdef void drop_input(self, Connection *conn) noexcept:
        if conn.partial != NULL:
            free(conn.partial.args)
            free(conn.partial)
            conn.partial = NULL
        self.input_bytes -= conn.input_room
        free(conn.input)
        conn.input = NULL
        conn.input_at = conn.input_end = conn.input_room = 0

    cdef void _note_partial(self, Connection *conn, bint progress) noexcept:
        """Note since when the client owes the rest of a request."""
        if conn.waits or conn.input_end == 0:
            conn.partial_ns = 0
        elif progress or conn.partial_ns == 0:
            conn.partial_ns = self.now_ns

    cdef int resume(self, Connection *conn) except -1:
        """Serve a connection that can go on: what came for it, then its own input."""
        self.begin(conn)
        if conn.done or conn.flags & ANSWERED:
            self._tell(conn)
        if conn.waits == 0 and conn.input_end and not conn.flags & (CLOSING | DEAD):
            self._go_on(conn)
        return self.finish(conn)

    cdef void _tell(self, Connection *conn) noexcept:
        """Tell the connection what its writes came to."""
        cdef bint told = True
        while conn.done and told:
            conn.done -= 1
            told = output_bytes(self.out, "+OK\r\n", 5)
        if conn.flags & ANSWERED:
            conn.flags &= ~<uint32_t>ANSWERED
            told = output_number(self.out, c':', conn.answer) and told
        if not told:
            self.doom(conn)

    cdef int _go_on(self, Connection *conn) except -1:
        cdef int64_t used = self.consume(conn, conn.input + conn.input_at,
                                         conn.input_end - conn.input_at)
        conn.input_at += <uint32_t>used
        if conn.input_at == conn.input_end:
            self.drop_input(conn)
        self._note_partial(conn, used > 0)
        return 0

    cdef int64_t consume(self, Connection *conn, uint8_t *p, uint64_t n) except -1:
        raise NotImplementedError

    # Time

    cdef int sweep(self) except -1:
        """Close whose time is up; listen again, if that was paused."""
        cdef uint32_t i
        cdef Connection *conn
        cdef int64_t now = self.now_ns
        cdef uint32_t busy = WAIT_WRITES | WAIT_ATOMIC | WAIT_REPLY | WAIT_ROOM
        if not self.listening and now >= self.listen_again_ns:
            self._listen_all()
        for i in range(self.live_count):
            conn = self.live[i]
            if ((conn.close_by_ns and now >= conn.close_by_ns)
                    or (self.limits.partial_ns and conn.partial_ns
                        and now - conn.partial_ns > self.limits.partial_ns)
                    or (self.limits.idle_ns and now - conn.active_ns > self.limits.idle_ns
                        and not conn.waits & busy and conn.writes == 0)):
                self.doom(conn)
        return 0
