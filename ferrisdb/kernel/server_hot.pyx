# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Carry out the commands that come most: GET, SET, MGET, MSET, EXISTS, DEL, INCR.

Each is only a shortcut: what is unusual in any way (arity, options, lengths, errors) is left to
Python, which has all commands. Keys are looked up where they lie in the input: the byte before a
key is the line end of its length, and is made the default key space's prefix for that time.

Invariants
    H1  No read is answered while its connection has writes that are not (W2).
    H2  Nothing of Python runs under the pin; what a pin showed is copied before it is let go.
    H3  The input is as it came, whenever something else than these commands looks at it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.atomics cimport (ATOMIC_ADD, ATOMIC_HEADER_BYTES, ATOMIC_HINT,
                                      ATOMIC_HINT_ABSENT, ATOMIC_REMOVE, REQUEST_ATOMIC_OP,
                                      parse_i64)
from ferrisdb.kernel.cpu cimport load64_acquire, put_u32, put_u64, store64_release
from ferrisdb.kernel.readview cimport LOOKUP_WINDOW, NOT_OPEN, Probe, ReadView
from ferrisdb.kernel.resp cimport (RespArg, RespRequest, output_bulk, output_bytes, output_null,
                                   output_number)
from ferrisdb.kernel.ring cimport METRIC_GETS
from ferrisdb.kernel.server_commits cimport (FLIGHT_ATOMIC, FLIGHT_REMOVE, Commits, Flight,
                                             FlightKind, Gather)
from ferrisdb.kernel.server_connections cimport (METRIC_HITS, METRIC_MISSES, WAIT_ATOMIC,
                                                 WAIT_WRITES, Connection)
from ferrisdb.kernel.source cimport KIND_PUT, Hit

from ferrisdb.errors import Error

cdef enum:
    KEY_MAX = 65535
    VALUE_MAX = 64 << 10        # larger ones go to Python
    INTEGER_BYTES_MAX = 20      # of what INCR can work on
    OUTPUT_PRESS = 256 << 10    # values that are told before more requests are looked at

cdef bytes PREFIX = b"\0"       # the default key space's


cdef inline uint64_t lower_word(const uint8_t *p, uint32_t n) noexcept nogil:
    # Up to 8 letters in lower case as a number; what is no letter may come out as another byte,
    # but never as a letter.
    cdef uint64_t word = 0
    memcpy(&word, p, n)
    return word | (<uint64_t>0x2020202020202020 >> (64 - 8 * n))


cdef inline uint8_t *copy(uint8_t *to, const uint8_t *p, uint32_t n) noexcept nogil:
    # Returns what is behind; p may be NULL where n is 0.
    if n:
        memcpy(to, p, n)
    return to + n


cdef inline uint64_t word_of(const char *name) noexcept nogil:
    cdef uint64_t word = 0
    cdef uint32_t n = 0
    while name[n]:
        word |= <uint64_t><uint8_t>name[n] << (8 * n)
        n += 1
    return word


cdef uint64_t W_GET = word_of("get"), W_SET = word_of("set"), W_DEL = word_of("del")
cdef uint64_t W_PING = word_of("ping"), W_MGET = word_of("mget"), W_MSET = word_of("mset")
cdef uint64_t W_INCR = word_of("incr"), W_DECR = word_of("decr")
cdef uint64_t W_EXISTS = word_of("exists"), W_UNLINK = word_of("unlink")
cdef uint64_t W_INCRBY = word_of("incrby"), W_DECRBY = word_of("decrby")


cdef class HotCommands(Commits):
    """The commands of `SocketServer` that need no Python."""

    cdef int hot(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        """Carry out a request that is no inline one, if it is one of these."""
        cdef uint32_t n = request.args[0].nbytes
        cdef uint64_t word
        if n < 3 or n > 6:
            return OUTCOME_ASK
        word = lower_word(p + request.args[0].at, n)
        if word == W_GET:
            return self._get(conn, p, request)
        self.answer_gets(conn)
        if self.rewound != NULL:
            return OUTCOME_HELD
        if word == W_SET:
            return self._put(conn, p, request) if request.count == 3 else OUTCOME_ASK
        if word == W_MSET:
            return self._put(conn, p, request)
        if conn.writes:
            conn.waits |= WAIT_WRITES                       # H1
            return OUTCOME_HELD
        if word == W_MGET:
            return self._mget(conn, p, request)
        if word == W_INCR:
            return self._add(conn, p, request, 1)
        if word == W_EXISTS:
            return self._exists(conn, p, request)
        if word == W_DEL or word == W_UNLINK:
            return self._delete(conn, p, request)
        if word == W_PING and request.count == 1:
            return OUTCOME_DONE if output_bytes(self.out, "+PONG\r\n", 7) else OUTCOME_ASK
        if word == W_DECR:
            return self._add(conn, p, request, -1)
        if word == W_INCRBY:
            return self._add(conn, p, request, 2)
        if word == W_DECRBY:
            return self._add(conn, p, request, -2)
        return OUTCOME_ASK

    # Looking up

    cdef int _probe(self, uint8_t *p, const RespArg *arg) noexcept:
        """Add a key to those to be looked up, its prefix before it."""
        cdef Probe *probe = &self.probes[self.probe_count]
        probe.key = p + arg.at - 1
        probe.key_bytes = arg.nbytes + 1
        p[arg.at - 1] = 0
        self.probe_count += 1
        return 0

    cdef bint _probe_all(self, uint8_t *p, const RespRequest *request) noexcept:
        """Add all keys of a request; False: they are too many, or too long, and none is added."""
        cdef uint32_t i
        if request.count < 2 or request.count > LOOKUP_WINDOW + 1:
            return False
        for i in range(1, request.count):
            if request.args[i].nbytes > KEY_MAX:
                self._restore()
                return False
            self._probe(p, &request.args[i])
        return True

    cdef int _restore(self) noexcept:
        """Put the input back as it came (H3)."""
        cdef uint32_t i
        for i in range(self.probe_count):
            (<uint8_t *>self.probes[i].key)[0] = c'\n'
        self.probe_count = 0
        return 0

    cdef int _look_up(self, uint64_t *seq) except -1:
        """Look the keys up and stay pinned; a former pin, from which `seq` is, is gone on with.

        Returns: 0; NOT_OPEN: the pin was let go, and the table that it needs is open now.
        """
        cdef ReadView view
        cdef int found = NOT_OPEN
        if seq[0] == 0:
            self.attached.pin(seq)
        view = self.attached.view
        try:
            if self.probe_count == 1:
                found = view.lookup(self.probes[0].key, self.probes[0].key_bytes, seq[0],
                                    &self.probes[0].hit)
                self.probes[0].found = found == 1
                found = NOT_OPEN if found == NOT_OPEN else 0
            else:
                found = view.lookup_window(self.probes, self.probe_count, seq[0])
        except BaseException:
            store64_release(self.attached.slot, 0)
            raise
        if found == NOT_OPEN:
            store64_release(self.attached.slot, 0)
            seq[0] = 0
            self.attached._open_wanted(view)
        return found

    cdef uint32_t _fitting(self) noexcept:
        """Return how many of the values, at least one, are to be told at once."""
        cdef uint32_t i
        cdef uint64_t nbytes = 0
        for i in range(self.probe_count):
            if self.probes[i].found:
                nbytes += self.probes[i].hit.value_bytes
            if nbytes > OUTPUT_PRESS:
                return max(i, <uint32_t>1)
        return self.probe_count

    cdef bint _lives(self, const Probe *probe) noexcept:
        """Tell whether a key that was looked up is there."""
        return probe.found and (probe.hit.expires_us == 0
                                or not self.attached.expired(&probe.hit))

    cdef bint _tell_found(self, Connection *conn, uint32_t count) noexcept:
        """Tell the connection the first `count` values; under the pin."""
        cdef uint32_t i, hits = 0
        cdef Hit *hit
        cdef bint told = True
        for i in range(count):
            hit = &self.probes[i].hit
            if self._lives(&self.probes[i]):
                hits += 1
                told = told and output_bulk(self.out, hit.value, hit.value_bytes)
            else:
                told = told and output_null(self.out, conn.protocol)
        self.metrics[METRIC_HITS] += hits
        self.metrics[METRIC_MISSES] += count - hits
        self.metrics[METRIC_GETS] += count
        return told

    cdef int64_t _count_found(self) noexcept:
        cdef uint32_t i
        cdef int64_t count = 0
        for i in range(self.probe_count):
            count += self._lives(&self.probes[i])
        return count

    cdef int _fail(self, uint64_t mark, uint32_t times, object error) except -1:
        """Answer requests that could not read by their error, in place of what they had begun."""
        cdef uint32_t _i
        cdef bytes text = self.failure(error.wire_code)
        self.out.nbytes = mark
        for _i in range(times):
            if not output_bytes(self.out, <const char *>text, <uint64_t>len(text)):
                raise MemoryError()
        return 0

    # Reads

    cdef int _get(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        if request.count != 2 or request.args[1].nbytes > KEY_MAX:
            self.answer_gets(conn)
            return OUTCOME_ASK if self.rewound == NULL else OUTCOME_HELD
        if conn.writes:
            conn.waits |= WAIT_WRITES                       # H1
            return OUTCOME_HELD
        self.asked[self.probe_count] = p
        self._probe(p, &request.args[1])
        if self.probe_count == LOOKUP_WINDOW:
            self.answer_gets(conn)
        return OUTCOME_DONE

    cdef int answer_gets(self, Connection *conn) except -1:
        """Answer the GETs that are parsed; if their values are large, not all (`rewound`)."""
        cdef uint64_t seq = 0, mark = self.out.nbytes
        cdef uint32_t count
        cdef bint told = True
        if self.probe_count == 0:
            return 0
        try:
            while self._look_up(&seq) == NOT_OPEN:
                pass
            count = self._fitting()
            told = self._tell_found(conn, count)
            store64_release(self.attached.slot, 0)
            if count < self.probe_count:
                self.rewound = self.asked[count]
                self.rewound_count = self.probe_count - count
        except Error as error:
            self._fail(mark, self.probe_count, error)
        finally:
            self._restore()
        if not told:
            self.doom(conn)
        return 0

    cdef int _mget(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        """Answer all keys at one sequence, LOOKUP_WINDOW of them at a time."""
        cdef uint64_t seq = 0, mark = self.out.nbytes
        cdef uint32_t i
        cdef bint told
        if request.count < 2:
            return OUTCOME_ASK
        for i in range(1, request.count):
            if request.args[i].nbytes > KEY_MAX:
                return OUTCOME_ASK
        told = output_number(self.out, c'*', request.count - 1)
        i = 1
        try:
            while i < request.count and told:
                while i < request.count and self.probe_count < LOOKUP_WINDOW:
                    self._probe(p, &request.args[i])
                    i += 1
                if self._look_up(&seq) == NOT_OPEN:
                    # From the beginning, at another sequence.
                    i = 1
                    self.out.nbytes = mark
                    told = output_number(self.out, c'*', request.count - 1)
                else:
                    told = self._tell_found(conn, self.probe_count)
                    if self.out.nbytes - mark > self.limits.output_bytes_max:
                        told = False                        # N5
                self._restore()
            store64_release(self.attached.slot, 0)
        except Error as error:
            self._fail(mark, 1, error)
        finally:
            self._restore()
        if not told:
            self.doom(conn)
        return OUTCOME_DONE

    cdef int _exists(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        cdef uint64_t seq = 0, mark = self.out.nbytes
        cdef int64_t count = 0
        if not self._probe_all(p, request):
            return OUTCOME_ASK
        try:
            while self._look_up(&seq) == NOT_OPEN:
                pass
            count = self._count_found()
            store64_release(self.attached.slot, 0)
            if not output_number(self.out, c':', count):
                self.doom(conn)
        except Error as error:
            self._fail(mark, 1, error)
        finally:
            self._restore()
        return OUTCOME_DONE

    # Plain writes

    cdef int _put(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        """Add the pairs to the batch of this round."""
        cdef uint64_t nbytes = 0
        cdef uint32_t i
        cdef const RespArg *key
        cdef const RespArg *value
        cdef Gather *gather = &self.gathers[conn.durability]
        cdef uint8_t *to
        if request.count < 3 or not request.count & 1:
            return OUTCOME_ASK
        for i in range(1, request.count, 2):
            if request.args[i].nbytes > KEY_MAX:
                nbytes = VALUE_MAX + 1
                break
            nbytes += 9 + request.args[i].nbytes + request.args[i + 1].nbytes
        if nbytes > VALUE_MAX or request.count > 1024:
            return OUTCOME_ASK
        if not self.gather_room(conn.durability, nbytes, request.count // 2):
            self.wait_for_room(conn)
            return OUTCOME_HELD
        to = gather.ops + gather.nbytes
        for i in range(1, request.count, 2):
            key, value = &request.args[i], &request.args[i + 1]
            put_u32(to, (key.nbytes + 1) | <uint32_t>KIND_PUT << 24)
            put_u32(to + 4, value.nbytes)
            to[8] = 0
            memcpy(to + 9, p + key.at, key.nbytes)
            to += 9 + key.nbytes
            memcpy(to, p + value.at, value.nbytes)
            to += value.nbytes
        gather.nbytes += nbytes
        gather.count += request.count // 2
        self.join_gather(conn.durability, conn)
        return OUTCOME_DONE

    # Atomic operations

    cdef int _push_atomics(self, Connection *conn, const RespRequest *request,
                           FlightKind kind, uint64_t generation, uint64_t seq,
                           int operation, const uint8_t *operand, uint32_t operand_bytes,
                           const Hit *hints) except -1:
        """Push one operation for each key that is probed; their hints' values are copied before.

        Shape:   hints, of the keys; their values only for an addition.
        """
        cdef uint64_t ops_bytes = 0, nbytes
        cdef uint32_t i, payload, value_bytes
        cdef int64_t deadline_ns = self.now_ns + self.attached.timeout_ns
        cdef uint8_t *record
        cdef uint8_t *to
        cdef Flight *flight
        for i in range(self.probe_count):
            ops_bytes += ATOMIC_HEADER_BYTES + self.probes[i].key_bytes + operand_bytes
            ops_bytes += hints[i].value_bytes
        nbytes = (c.REQUEST_HEADER_BYTES + ops_bytes + 7) & ~<uint64_t>7
        if nbytes > c.RING_BYTES // 4:
            return OUTCOME_ASK
        if not self.has_room(nbytes):
            self.wait_for_room(conn)
            return OUTCOME_HELD
        record = self.attached.reserve(nbytes, deadline_ns)
        record[c.REQUEST_TYPE] = c.REQUEST_ATOMIC
        put_u64(record + c.REQUEST_GENERATION, generation)
        put_u64(record + c.REQUEST_SNAPSHOT_SEQ, seq)
        to = record + c.REQUEST_HEADER_BYTES
        for i in range(self.probe_count):
            value_bytes = hints[i].value_bytes
            payload = operand_bytes + value_bytes
            put_u32(to, self.probes[i].key_bytes | <uint32_t>REQUEST_ATOMIC_OP << 24)
            put_u32(to + 4, payload)
            put_u32(to + 8, <uint32_t>operation | <uint32_t>(
                ATOMIC_HINT if self.probes[i].found else ATOMIC_HINT_ABSENT) << 16)
            put_u32(to + 12, operand_bytes)
            put_u64(to + 16, 0)
            put_u64(to + 24, 0)
            put_u64(to + 32, hints[i].expires_us)
            to += ATOMIC_HEADER_BYTES
            to = copy(to, self.probes[i].key, self.probes[i].key_bytes)
            to = copy(to, operand, operand_bytes)
            to = copy(to, hints[i].value, value_bytes)
        flight = self._take_off(
            self.attached.push(record, nbytes, conn.durability, <uint32_t>ops_bytes,
                               self.probe_count, deadline_ns, True), kind)
        flight.conn, flight.number = conn, conn.number
        conn.waits |= WAIT_ATOMIC
        conn.atomic_bytes = request.at
        return OUTCOME_HELD                                 # W3

    cdef int _add(self, Connection *conn, uint8_t *p, const RespRequest *request,
                  int sign) except -1:
        """Add 1 or -1, or what the request says (2) or its negative (-2)."""
        cdef uint8_t operand[INTEGER_BYTES_MAX + 2]
        cdef uint8_t held[INTEGER_BYTES_MAX]
        cdef Hit hint
        cdef uint32_t n = 1
        cdef uint64_t seq = 0, generation
        cdef int64_t delta
        cdef bint plain = sign == 1 or sign == -1
        if request.count != (2 if plain else 3) or request.args[1].nbytes > KEY_MAX:
            return OUTCOME_ASK
        operand[0] = c'1'
        if sign == -1:
            operand[0], operand[1], n = c'-', c'1', 2
        elif not plain:
            n = request.args[2].nbytes
            if n > INTEGER_BYTES_MAX or not parse_i64(p + request.args[2].at, n, &delta):
                return OUTCOME_ASK
            memcpy(operand, p + request.args[2].at, n)
            if sign == -2:
                if n > 18 or delta <= 0:
                    return OUTCOME_ASK
                memcpy(operand + 1, p + request.args[2].at, n)
                operand[0] = c'-'
                n += 1
        # Before the read: who reads in a later generation says this one, and is refused.
        generation = load64_acquire(self.attached.control + c.CONTROL_GENERATION)
        self._probe(p, &request.args[1])
        try:
            while self._look_up(&seq) == NOT_OPEN:
                pass
            hint = self.probes[0].hit
            if not self._lives(&self.probes[0]):
                self.probes[0].found = False
                memset(&hint, 0, sizeof(Hit))
            if hint.value_bytes <= INTEGER_BYTES_MAX:
                copy(held, hint.value, hint.value_bytes)
                hint.value = held
            store64_release(self.attached.slot, 0)
            if hint.value_bytes > INTEGER_BYTES_MAX:
                return OUTCOME_ASK
            return self._push_atomics(conn, request, FLIGHT_ATOMIC, generation, seq, ATOMIC_ADD,
                                      operand, n, &hint)
        except Error:
            return OUTCOME_ASK
        finally:
            self._restore()

    cdef int _delete(self, Connection *conn, uint8_t *p, const RespRequest *request) except -1:
        """Remove keys; if none of them is there now, the coordinator is not asked."""
        cdef Hit hints[LOOKUP_WINDOW]
        cdef uint32_t i, count = 0
        cdef uint64_t seq = 0, generation
        if not self._probe_all(p, request):
            return OUTCOME_ASK
        generation = load64_acquire(self.attached.control + c.CONTROL_GENERATION)
        try:
            while self._look_up(&seq) == NOT_OPEN:
                pass
            for i in range(self.probe_count):
                memset(&hints[i], 0, sizeof(Hit))
                if self._lives(&self.probes[i]):
                    hints[i].expires_us = self.probes[i].hit.expires_us
                    count += 1
                else:
                    self.probes[i].found = False
            store64_release(self.attached.slot, 0)
            if count == 0:
                # It was so at the sequence of the read, behind the connection's own writes.
                return OUTCOME_DONE if output_bytes(self.out, ":0\r\n", 4) else OUTCOME_ASK
            return self._push_atomics(conn, request, FLIGHT_REMOVE, generation, seq,
                                      ATOMIC_REMOVE, NULL, 0, hints)
        except Error:
            return OUTCOME_ASK
        finally:
            self._restore()
