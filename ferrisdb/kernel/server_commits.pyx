# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Commit what a server's connections write, without ever waiting for it.

The plain writes of all connections that come in one round are one batch for each durability. What
Python submits, and each atomic operation, is a request of its own. None waits for another.

Invariants
    W1  Requests of one connection reach the ring in its order, and the ring is answered in order.
    W2  A connection is told of a write when it is visible; whatever reads waits until then.
    W3  An atomic operation stays in its connection's input until it is answered: where the history
        has gone it is done again, from there.
    W4  At most REQUESTS_MAX of the ring's requests are ours, so that a commit of another thread,
        or one that a command waits for, finds room.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.batch cimport BatchBuffer
from ferrisdb.kernel.cpu cimport load32_acquire, load64_relaxed, load_u32, load_u64
from ferrisdb.kernel.port cimport CODE_HISTORY, CODE_SNAPSHOT_TOO_OLD
from ferrisdb.kernel.server_connections cimport (ANSWERED, DEAD, METRIC_COMMANDS, WAIT_ATOMIC,
                                                 WAIT_ROOM, WAIT_WRITES, Connection,
                                                 Connections)

from collections import deque

from ferrisdb.errors import ClosedError, Error, ProtocolError, UnavailableError

cdef enum:
    REQUESTS_MAX = 224
    GATHER_COUNT_MAX = 1024
    GATHER_BYTES_MAX = 192 << 10
    GATHER_MEMBERS = 24         # connections whose writes are not held back for more
    GATHER_NS = 100_000
    OP_BYTES = 136              # what an operation takes in a memtable beside its bytes
    CODE_NOT_AN_INTEGER = 70
    CODE_INTEGER_OVERFLOW = 71

cdef int64_t LOOK_NS = 100_000_000
cdef int64_t GRACE_NS = 2_000_000_000

NOT_AN_INTEGER = b"-ERR value is not an integer or out of range\r\n"
OVERFLOW = b"-ERR increment or decrement would overflow\r\n"
INTERNAL_ERROR = b"-ERR internal error\r\n"


cdef class Commits(Connections):
    """The writing half of `SocketServer`."""

    def __cinit__(self, *args, **limits):
        self.tokens = [None] * FLIGHT_COUNT
        self.queue = deque()
        self.taken_no = self.attached.next_no - 1
        self.gather_bytes_max = load64_relaxed(self.attached.control + c.CONTROL_BATCH_BYTES_MAX)

    def __dealloc__(self):
        cdef int i
        for i in range(4):
            free(self.gathers[i].ops)
            free(self.gathers[i].members)
        for i in range(FLIGHT_COUNT):
            free(self.flights[i].members)

    cdef bytes failure(self, uint32_t status):
        """Return the error line of a wire code."""
        if status == CODE_NOT_AN_INTEGER:
            return NOT_AN_INTEGER
        if status == CODE_INTEGER_OVERFLOW:
            return OVERFLOW
        try:
            return self.handler.failure(status)
        except Exception:
            self.report("an error's text")
            return INTERNAL_ERROR

    # Into the ring

    cdef bint has_room(self, uint64_t nbytes) noexcept:
        """Tell whether a record of so many bytes can be pushed now."""
        if self.in_flight >= REQUESTS_MAX:
            return False
        if self.attached.has_room(nbytes):
            return True
        self.attached.absorb()
        return self.attached.has_room(nbytes)

    cdef Flight *_take_off(self, uint64_t request_no, FlightKind kind) noexcept:
        cdef Flight *flight = &self.flights[request_no % FLIGHT_COUNT]
        if self.in_flight == 0:
            self.progress_ns = self.now_ns
        self.in_flight += 1
        flight.request_no, flight.kind = request_no, kind
        flight.members, flight.member_count = NULL, 0
        flight.large_no = 0
        flight.conn, flight.number = NULL, 0
        return flight

    cdef int wait_for_room(self, Connection *conn) noexcept:
        conn.waits |= WAIT_ROOM
        self.room_wanted = True
        return 0

    cdef int _give_room(self) except -1:
        """Let those go on that found no room."""
        cdef uint32_t i
        self.room_wanted = False
        for i in range(self.live_count):
            if self.live[i].waits & WAIT_ROOM:
                self.live[i].waits &= ~WAIT_ROOM
                self.make_ready(self.live[i])
        return 0

    # Plain writes

    cdef bint gather_room(self, int durability, uint64_t nbytes, uint64_t count) except? -1:
        """Make room in the batch for operations of so many bytes; False: there is none now."""
        cdef Gather *gather = &self.gathers[durability]
        cdef void *grown
        cdef uint64_t nbytes_max = self.gather_bytes_max
        if gather.count and (
                gather.nbytes + nbytes > GATHER_BYTES_MAX or gather.count + count > GATHER_COUNT_MAX
                or gather.nbytes + nbytes + (gather.count + count) * OP_BYTES > nbytes_max):
            self._push_gather(durability)
            if gather.count:
                return False
        if gather.nbytes + nbytes > gather.room:
            grown = realloc(gather.ops, 2 * (gather.nbytes + nbytes))
            if grown == NULL:
                raise MemoryError()
            gather.ops = <uint8_t *>grown
            gather.room = 2 * (gather.nbytes + nbytes)
        return True

    cdef int join_gather(self, int durability, Connection *conn) except -1:
        """Note that the batch has one more write of the connection."""
        cdef Gather *gather = &self.gathers[durability]
        cdef Member *member
        cdef void *grown
        conn.writes += 1
        if gather.member_count:
            member = &gather.members[gather.member_count - 1]
            if member.conn == conn and member.number == conn.number:
                member.count += 1
                return 0
        if gather.member_count == gather.member_room:
            grown = realloc(gather.members, (2 * gather.member_room + 32) * sizeof(Member))
            if grown == NULL:
                raise MemoryError()
            gather.members = <Member *>grown
            gather.member_room = 2 * gather.member_room + 32
        if gather.member_count == 0:
            gather.begun_ns = self.now_ns
        member = &gather.members[gather.member_count]
        member.conn, member.number, member.count = conn, conn.number, 1
        gather.member_count += 1
        return 0

    cdef bint has_gathered(self) noexcept:
        """Tell whether plain writes wait for being pushed."""
        return (self.gathers[c.DURABILITY_OS].count > 0
                or self.gathers[c.DURABILITY_SYNC].count > 0)

    cdef int _push_gather(self, int durability) except -1:
        """Push the batch, if the ring has room for it."""
        cdef Gather *gather = &self.gathers[durability]
        cdef uint64_t nbytes = (c.REQUEST_HEADER_BYTES + gather.nbytes + 7) & ~<uint64_t>7
        cdef int64_t deadline_ns = self.now_ns + self.attached.timeout_ns
        cdef uint8_t *record
        cdef Flight *flight
        if not self.has_room(nbytes):
            return 0
        record = self.attached.reserve(nbytes, deadline_ns)
        memcpy(record + c.REQUEST_HEADER_BYTES, gather.ops, gather.nbytes)
        flight = self._take_off(
            self.attached.push(record, nbytes, durability, <uint32_t>gather.nbytes,
                               <uint32_t>gather.count, deadline_ns, True), FLIGHT_GATHER)
        flight.members, flight.member_count = gather.members, gather.member_count
        flight.durability = durability
        gather.in_flight += 1
        gather.members, gather.member_count, gather.member_room = NULL, 0, 0
        gather.nbytes = gather.count = 0
        return 0

    # What Python commits

    def submit(self, token, BatchBuffer batch not None, int durability, uint64_t generation=0,
               uint64_t snapshot_seq=0, bytes checks not None=b"", uint64_t expiry_us=0):
        """Commit a batch without waiting; `token.committed` is called with what became of it.

        In order with everything else that was submitted. The batch is not to be changed before.
        Raises:  BatchTooLargeError, TransactionTooLargeError, ClosedError, or of a batch that
                 does not fit the ring SharedMemoryFullError: nothing was submitted.
        """
        if self.attached.alive == NULL or self.attached.alive[0] != 1:
            raise ClosedError("this handle is closed: open the database again")
        self.attached._check_size(batch, checks)
        if durability != c.DURABILITY_SYNC:
            durability = c.DURABILITY_OS
        if self.queue or not self._push_token(
                token, batch, durability, generation, snapshot_seq, checks, expiry_us):
            self.queue.append(
                (token, batch, durability, generation, snapshot_seq, checks, expiry_us))

    cdef bint _push_token(self, token, BatchBuffer batch, int durability, uint64_t generation,
                          uint64_t snapshot_seq, bytes checks, uint64_t expiry_us) except? -1:
        cdef uint64_t nbytes = self.attached._record_bytes(batch, checks), large_no = 0, request_no
        cdef bint large = nbytes > c.RING_BYTES // 2
        cdef Flight *flight
        if large:
            if self.large_in_flight:
                return False
            nbytes = c.REQUEST_HEADER_BYTES
        if not self.has_room(nbytes):
            return False
        if large:
            large_no = self.attached._large_create(batch.encoded() + checks)
        request_no = self.attached._push_batch(
            batch, durability, generation, snapshot_seq, checks, expiry_us, large_no,
            self.now_ns + self.attached.timeout_ns, True)
        flight = self._take_off(request_no, FLIGHT_TOKEN)
        flight.large_no = large_no
        self.large_in_flight = self.large_in_flight or large
        self.tokens[request_no % FLIGHT_COUNT] = token
        return True

    cdef bint is_due(self, int durability) noexcept:
        """Tell whether the batch is to be pushed now.

        One at a time: what comes while it is committed makes the next one. And not before the
        sockets that have something were read, within bounds. So the coordinator is woken once for
        many writes: a wake costs more than their commit.
        """
        cdef Gather *gather = &self.gathers[durability]
        return gather.count > 0 and gather.in_flight == 0 and (
            self.event_count == 0 or gather.member_count >= GATHER_MEMBERS
            or self.now_ns - gather.begun_ns > GATHER_NS)

    cdef int push_all(self) except -1:
        """Push what is waiting, as far as there is room."""
        cdef int durability
        while self.queue:
            item = self.queue[0]
            try:
                if not self._push_token(item[0], item[1], item[2], item[3], item[4], item[5],
                                        item[6]):
                    break
                self.queue.popleft()
            except Error as error:
                self.queue.popleft()
                memset(&self.attached.last_reply, 0, sizeof(self.attached.last_reply))
                self._land_token(item[0], error.wire_code, 0)
        for durability in range(c.DURABILITY_OS, c.DURABILITY_SYNC + 1):
            if self.is_due(durability):
                self._push_gather(durability)
        return 0

    # Out of it

    cdef bint has_answers(self) noexcept:
        """Tell whether answers have come that were not taken."""
        self.attached.absorb()
        return self.taken_no != self.attached.done_no

    cdef int take_answers(self) except -1:
        """Take every answer that has come."""
        cdef uint32_t index
        cdef Flight *flight
        if not self.has_answers():
            return 0
        self.progress_ns = self.now_ns
        while self.taken_no < self.attached.done_no:
            self.taken_no += 1
            index = self.taken_no % FLIGHT_COUNT
            flight = &self.flights[index]
            if flight.request_no == self.taken_no:
                self._land(flight, index)
        if self.room_wanted:
            self._give_room()
        return 0

    cdef int _land(self, Flight *flight, uint32_t index) except -1:
        cdef uint8_t *completion = (self.attached.segment + c.COMPLETIONS_OFFSET
                                    + index * c.COMPLETION_BYTES)
        cdef uint32_t status = load_u32(completion + c.COMPLETION_STATUS)
        cdef uint64_t seq = load_u64(completion + c.COMPLETION_SEQ)
        self.attached._take_reply(completion)
        self.attached.waiting[index] = 0
        self.in_flight -= 1
        flight.request_no = 0
        if flight.kind == FLIGHT_GATHER:
            return self._land_gather(flight, status)
        if flight.kind != FLIGHT_TOKEN:
            return self._land_atomic(flight, status)
        token, self.tokens[index] = self.tokens[index], None
        if flight.large_no:
            self.large_in_flight = False
            self.attached._large_drop(flight.large_no)
        return self._land_token(token, status, seq)

    cdef int _land_gather(self, Flight *flight, uint32_t status) except -1:
        cdef uint32_t i
        cdef Member *member
        cdef Connection *conn
        cdef bytes text = self.failure(status) if status else None
        self.gathers[flight.durability].in_flight -= 1
        for i in range(flight.member_count):
            member = &flight.members[i]
            conn = member.conn
            if conn.number != member.number or conn.flags & DEAD:
                continue
            conn.writes -= <uint32_t>member.count
            if status == 0:
                conn.done += <uint32_t>member.count
            else:
                self.say(conn, b"+OK\r\n" * conn.done + text * member.count)
                conn.done = 0
            if conn.writes == 0:
                conn.waits &= ~WAIT_WRITES
            self.make_ready(conn)
        free(flight.members)
        flight.members = NULL
        return 0

    cdef int _land_atomic(self, Flight *flight, uint32_t status) except -1:
        cdef Connection *conn = flight.conn
        if conn.number != flight.number or conn.flags & DEAD:
            return 0
        conn.waits &= ~WAIT_ATOMIC
        self.make_ready(conn)
        if status == CODE_HISTORY or status == CODE_SNAPSHOT_TOO_OLD:
            return 0                                        # W3
        conn.input_at += <uint32_t>conn.atomic_bytes
        conn.commands += 1
        self.metrics[METRIC_COMMANDS] += 1
        if conn.input_at == conn.input_end:
            self.drop_input(conn)
        if status:
            return self.say(conn, self.failure(status))
        conn.flags |= ANSWERED
        conn.answer = self.attached.last_reply.result
        if flight.kind == FLIGHT_REMOVE:
            conn.answer = self.attached.last_reply.applied
        return 0

    cdef int _land_token(self, token, uint32_t status, uint64_t seq) except -1:
        try:
            token.committed(status, seq, self.attached.last_reply.applied,
                            self.attached.last_reply.unfit == 0, self.attached.last_reply.result)
        except Exception:
            self.report("behind a commit")
        return 0

    cdef int look_at_service(self) except -1:
        """Find out why answers stay away.

        Raises:  UnavailableError, there were none for longer than any request may take;
                 ProtocolError, the coordinator serves this client no longer.
        """
        if load32_acquire(self.attached.segment + c.CLIENT_ERROR):
            raise ProtocolError("the coordinator found a malformed request and serves this worker "
                                "no longer")
        if self.now_ns - self.progress_ns < LOOK_NS or self.now_ns - self.looked_ns < LOOK_NS:
            return 0
        self.looked_ns = self.now_ns
        # The deadline is past: it looks, and does not wait.
        self.attached._check_service(0)
        if self.now_ns - self.progress_ns > self.attached.timeout_ns + GRACE_NS:
            raise UnavailableError("commits are not answered any more")
        return 0
