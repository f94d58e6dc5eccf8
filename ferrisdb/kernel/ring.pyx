# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Push requests into the own ring and wait for their answers: the writing half of a handle.

One module, because what may be asked for shares the ring's counters and the waiting.

Invariants
    A2  Nothing of the parent's segment is written in a forked child: `alive` is on a page that
        fork wipes, and is looked at first.
    A3  A request's ring space is reused only once its answer was seen, so that everything
        unanswered can be read again by the next coordinator, in order.
    A4  A completion is overwritten only after its reader took it: request n + COMPLETION_COUNT
        is not pushed before that.
    A5  Everything of the control page is read under the GIL, or through a pointer whose mapping is
        kept, so that the page may be replaced.

Source: the sleep and wake protocol is Dekker's, with a full fence between each side's store and
load; spinning before sleeping as in Karlin et al. 1991, bounded by what spins have taken.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.atomics cimport ATOMIC_REPLY_BYTES, AtomicReply
from ferrisdb.kernel.batch cimport BatchBuffer, as_bytes
from ferrisdb.kernel.cpu cimport (add32, cpu_number, fence_full, futex_wait, futex_wake,
                                  load32_acquire, load32_relaxed, load64_acquire, load64_relaxed,
                                  load_u32, load_u64, monotonic_ns, pause, put_u32, put_u64,
                                  store64_release)
from ferrisdb.kernel.ring cimport METRIC_REQUESTS
from ferrisdb.kernel.port cimport CHECKS_BYTES_MAX
from ferrisdb.kernel.source cimport KIND_DELETE
from ferrisdb.kernel.wal cimport op_header_bytes

from ferrisdb.errors import (BatchTooLargeError, ClosedError, CommitUnknownError, ProtocolError,
                             TransactionTooLargeError, UnavailableError, UsageError)

cdef enum:
    SPIN_NS = 20_000
    SLEEP_NS = 20_000_000       # a sleeper looks at least this often whether the service lives
    GRACE_NS = 1_000_000_000    # the coordinator answers Busy itself; so long we wait for that

DURABILITIES = {
    "async": c.DURABILITY_ASYNC, "os": c.DURABILITY_OS, "sync": c.DURABILITY_SYNC}
"""The number of each durability that a write may ask for (layout.pxd)."""


cdef class RingProducer:
    """The writing half of an attached process: its ring, and the pages it shares with the service.

    Owner:   its process; any thread, under the GIL.
    """

    def __cinit__(self, *args, **kwargs):
        self.alive_page = <Py_buffer *>malloc(sizeof(Py_buffer))
        if self.alive_page == NULL:
            raise MemoryError()
        self._maps = []
        self.default_durability = c.DURABILITY_SYNC
        self.timeout_ns = 30_000_000_000
        self.cpu_count = 1

    def __dealloc__(self):
        if self.alive != NULL:
            PyBuffer_Release(self.alive_page)
        free(self.alive_page)

    # Attaching: called by the Python part

    def _set_control(self, control, doorbell):
        """Map the control page (read-only) and the doorbell of a service."""
        cdef const uint8_t[::1] page = control
        cdef uint8_t[::1] bell = doorbell
        if page.shape[0] < c.CONTROL_BYTES or bell.shape[0] < c.DOORBELL_BYTES:
            raise ProtocolError("the control page is too short")
        self.control = <uint8_t *>&page[0]
        self.doorbell = &bell[0]
        self._maps.append((page, bell))

    def _set_segment(self, segment, alive):
        """Take a new client segment and the page that fork wipes; a new session begins."""
        cdef uint8_t[::1] words = segment
        if self.alive != NULL:
            PyBuffer_Release(self.alive_page)
            self.alive = NULL
        PyObject_GetBuffer(alive, self.alive_page, PyBUF_WRITABLE)
        self.alive = <uint32_t *>self.alive_page.buf
        self.segment = &words[0]
        self.metrics = <uint64_t *>(self.segment + c.METRICS_OFFSET)
        self._maps.append(words)
        self.tail = self.done_pos = 0
        self.next_no = 1
        self.done_no = 0
        self.async_no = 0
        self.async_status = 0
        memset(self.waiting, 0, sizeof(self.waiting))
        self.session += 1
        self.alive[0] = 1

    def _agree(self, uint64_t generation):
        """Serve under a new coordinator: take the old one's last answers, offer the rest again.

        A request that its thread gave up (its outcome was reported unknown) is made empty first,
        so that it can't take effect long after.
        """
        cdef uint64_t request_no, begin
        cdef uint8_t *record
        self.absorb()
        begin = self.done_pos
        for request_no in range(self.done_no + 1, self.next_no):
            record = self.segment + c.RING_OFFSET + begin % c.RING_BYTES
            if (load_u32(record + 4) & 0xFF) == c.REQUEST_PAD:
                begin += load_u32(record)
                record = self.segment + c.RING_OFFSET + begin % c.RING_BYTES
            if self.waiting[request_no % c.COMPLETION_COUNT] == 2:
                put_u32(record + c.REQUEST_OPS_BYTES, 0)
                put_u32(record + c.REQUEST_COUNT_, 0)
                put_u32(record + c.REQUEST_CHECKS_BYTES, 0)
                put_u64(record + c.REQUEST_LARGE_NO, 0)
            begin = self.end_pos[request_no % c.COMPLETION_COUNT]
        self.generation = generation
        store64_release(self.segment + c.CLIENT_GENERATION, generation)
        self._call_attention()

    def _call_attention(self):
        """Ask the coordinator to look at the registry."""
        add32(self.doorbell + c.DOORBELL_ATTENTION, 1)
        add32(self.doorbell + c.DOORBELL_WORD, 1)
        futex_wake(self.doorbell + c.DOORBELL_WORD, 1)

    def _detach(self):
        """Refuse every further use; the maps stay until the last view of them goes."""
        if self.alive != NULL:
            self.alive[0] = 0

    def _control_word(self, Py_ssize_t offset):
        """Load a u64 of the control page with acquire order."""
        if self.control == NULL or offset < 0 or offset > c.CONTROL_BYTES - 8:
            raise ClosedError("not attached")
        return load64_acquire(self.control + offset)

    def _attached_generation(self):
        return load64_acquire(self.segment + c.CLIENT_ATTACHED)

    def _is_alive(self):
        return self.alive != NULL and self.alive[0] == 1
    # What the Python part overrides

    def _revive(self):
        raise ClosedError("this handle is closed: open the database again")

    def _check_service(self, deadline_ns):
        raise UnavailableError("the service is gone")

    def _status_error(self, code, detail):
        return ProtocolError(f"request answered with code {code}")

    # Writing

    cdef int begin_write(self) except -1:
        """Begin a call: attached, this process, and no asynchronous write's error untold."""
        if self.alive == NULL or self.alive[0] != 1:
            self._revive()
        if self.async_status:
            self.raise_async()
        return 0

    cdef int durability_code(self, object durability) except -1:
        if durability is None:
            return self.default_durability
        code = DURABILITIES.get(durability)
        if code is None:
            raise UsageError(f"durability is 'sync', 'os' or 'async', not {durability!r}")
        return code

    cdef void absorb(self) noexcept:
        """Take note of the answers that have come."""
        cdef uint64_t index
        cdef uint8_t *completion
        cdef uint64_t before = self.done_no
        while self.done_no + 1 < self.next_no:
            index = (self.done_no + 1) % c.COMPLETION_COUNT
            completion = self.segment + c.COMPLETIONS_OFFSET + index * c.COMPLETION_BYTES
            if load64_acquire(completion + c.COMPLETION_REQUEST_NO) != self.done_no + 1:
                break
            self.done_no += 1
            self.done_pos = self.end_pos[index]
            if self.waiting[index] == 0 and load_u32(completion + c.COMPLETION_STATUS):
                if self.async_status == 0:
                    self.async_status = <int>load_u32(completion + c.COMPLETION_STATUS)
            if self.waiting[index] == 2:
                self.waiting[index] = 0
        if self.done_no != before:
            store64_release(self.segment + c.CLIENT_DONE_POS, self.done_pos)

    cdef bint has_room(self, uint64_t nbytes) noexcept:
        cdef uint64_t at = self.tail % c.RING_BYTES
        cdef uint64_t pad = c.RING_BYTES - at if nbytes > c.RING_BYTES - at else 0
        return (self.tail + pad + nbytes - self.done_pos <= c.RING_BYTES
                and self.next_no - self.done_no < c.COMPLETION_COUNT
                and self.waiting[self.next_no % c.COMPLETION_COUNT] == 0)

    cdef uint8_t *reserve(self, uint64_t nbytes, int64_t deadline_ns) except NULL:
        """Find room for a record in the ring, waiting for answers if it is full (A3, A4)."""
        cdef uint64_t at, pad
        while True:
            if self.has_room(nbytes):
                break
            self.absorb()
            if self.has_room(nbytes):
                break
            if monotonic_ns() > deadline_ns:
                raise self._status_error(51, 0)
            self._sleep(self.done_no + 1, deadline_ns)
            PyErr_CheckSignals()
            if self.alive[0] != 1:
                raise ClosedError("this handle was closed by another thread")
        at = self.tail % c.RING_BYTES
        pad = c.RING_BYTES - at if nbytes > c.RING_BYTES - at else 0
        if pad:
            put_u32(self.segment + c.RING_OFFSET + at, <uint32_t>pad)
            put_u32(self.segment + c.RING_OFFSET + at + 4, c.REQUEST_PAD)
            self.tail += pad
            at = 0
        memset(self.segment + c.RING_OFFSET + at, 0, c.REQUEST_HEADER_BYTES)
        return self.segment + c.RING_OFFSET + at

    cdef uint64_t push(self, uint8_t *record, uint64_t nbytes, int durability, uint32_t ops_bytes,
                       uint32_t count, int64_t deadline_ns, bint waited) except 0:
        """Complete the reserved record's header and show it; returns its request number."""
        cdef uint64_t request_no = self.next_no
        cdef uint64_t index = request_no % c.COMPLETION_COUNT
        put_u32(record, <uint32_t>nbytes)
        if record[c.REQUEST_TYPE] == 0:
            record[c.REQUEST_TYPE] = c.REQUEST_BATCH
        record[c.REQUEST_DURABILITY] = <uint8_t>durability
        put_u64(record + c.REQUEST_NO, request_no)
        put_u64(record + c.REQUEST_UNANSWERED_NO, self.done_no + 1)
        put_u64(record + c.REQUEST_DEADLINE_NS, <uint64_t>deadline_ns)
        put_u32(record + c.REQUEST_OPS_BYTES, ops_bytes)
        put_u32(record + c.REQUEST_COUNT_, count)
        put_u32(record + c.REQUEST_CPU, cpu_number())
        self.tail += nbytes
        self.end_pos[index] = self.tail
        self.waiting[index] = waited
        self.next_no += 1
        self.metrics[METRIC_REQUESTS] += 1
        if not waited:
            self.async_no = request_no
        store64_release(self.segment + c.CLIENT_TAIL, self.tail)
        fence_full()
        if load32_relaxed(self.control + c.CONTROL_SLEEPING):
            add32(self.doorbell + c.DOORBELL_WORD, 1)
            futex_wake(self.doorbell + c.DOORBELL_WORD, 1)
        return request_no

    cdef void _spin(self, const uint8_t *completion, uint64_t request_no) noexcept:
        """Look at the completion for a while: twice what spins that paid off took on average.

        A spin in vain ends spinning; every sixteenth wait tries whether it would pay off again.
        Held is the GIL: the time is less than what letting it go and taking it again may cost.
        """
        cdef int64_t begin = monotonic_ns(), now = begin
        cdef int64_t end = begin + (self.spin_ns * 2 + 1000 if self.spin_ns else SPIN_NS)
        cdef uint32_t _i
        end = min(end, begin + SPIN_NS)
        while now < end:
            for _i in range(8):
                if load64_acquire(completion) == request_no:
                    now = monotonic_ns() - begin
                    self.spin_ns = (self.spin_ns * 7 + now) // 8 if self.spin_ns else now
                    self.spins_in_vain = 0
                    return
                pause()
            now = monotonic_ns()
        self.spins_in_vain += 1
        if self.spins_in_vain >= 4:
            self.spin_ns = 0

    cdef uint64_t wait(self, uint64_t request_no, int64_t deadline_ns) except 0:
        """Wait for the answer; returns the last sequence + 1, raises the answer's error."""
        cdef uint64_t index = request_no % c.COMPLETION_COUNT, seq
        cdef uint8_t *completion = self.segment + c.COMPLETIONS_OFFSET + index * c.COMPLETION_BYTES
        cdef uint32_t status
        cdef uint64_t session = self.session
        self.wait_count += 1
        if load32_relaxed(self.control + c.CONTROL_ACTIVE_CLIENTS) < self.cpu_count and (
                self.spin_ns or self.wait_count & 15 == 0):
            self._spin(completion, request_no)
        try:
            while load64_acquire(completion) != request_no:
                if self._sleep(request_no, deadline_ns):
                    raise CommitUnknownError("no answer within the time-out: the commit may still "
                                             "happen; read the keys to learn the outcome")
                PyErr_CheckSignals()
                if self.session != session or self.alive[0] != 1:
                    raise CommitUnknownError("the handle was closed by another thread before the "
                                             "answer: read the keys to learn the outcome")
        except BaseException as error:
            if self.session == session and self.waiting[index] == 1:
                self.waiting[index] = 2
            if isinstance(error, UnavailableError):
                raise CommitUnknownError(f"the commit was not answered: {error}") from error
            raise
        self.absorb()
        status = load_u32(completion + c.COMPLETION_STATUS)
        seq = load_u64(completion + c.COMPLETION_SEQ)
        self._take_reply(completion)
        self.waiting[index] = 0
        if status:
            raise self._status_error(status, seq)
        return seq + 1

    cdef int _sleep(self, uint64_t request_no, int64_t deadline_ns) except -1:
        """Sleep once, at most SLEEP_NS, unless the request is answered; then look at the service.

        Returns 1 when the deadline and the coordinator's time to answer it have passed.
        """
        cdef uint8_t *segment = self.segment
        cdef uint8_t *completion = segment + c.COMPLETIONS_OFFSET + (
            request_no % c.COMPLETION_COUNT) * c.COMPLETION_BYTES
        cdef uint32_t word
        cdef bint slept = False
        with nogil:
            word = load32_acquire(segment + c.CLIENT_WAKE)
            add32(segment + c.CLIENT_SLEEPING, 1)
            fence_full()
            if load64_acquire(completion) != request_no:
                futex_wait(segment + c.CLIENT_WAKE, word, SLEEP_NS)
                slept = True
            add32(segment + c.CLIENT_SLEEPING, <uint32_t>-1)
        if load64_acquire(completion) == request_no:
            return 0
        if load32_acquire(segment + c.CLIENT_ERROR):
            raise ProtocolError("the coordinator found a malformed request and serves this handle "
                                "no longer: open the database again")
        if slept or load64_acquire(self.control + c.CONTROL_GENERATION) != self.generation:
            self._check_service(deadline_ns)
        return 1 if monotonic_ns() > deadline_ns + GRACE_NS else 0

    cdef uint64_t put_one(self, bytes prefix, uint8_t kind, object key, object value,
                          uint64_t expires_us, int durability) except 0:
        cdef const uint8_t *k
        cdef const uint8_t *v = NULL
        cdef Py_ssize_t key_bytes, value_bytes = 0
        cdef uint64_t ops_bytes, nbytes, request_no
        cdef uint32_t head = op_header_bytes(kind)
        cdef uint32_t prefix_bytes = <uint32_t>PyBytes_GET_SIZE(prefix)
        cdef uint8_t *record
        cdef uint8_t *p
        cdef int64_t deadline_ns
        cdef BatchBuffer batch
        self.begin_write()
        as_bytes(key, "key", &k, &key_bytes)
        if kind != KIND_DELETE:
            as_bytes(value, "value", &v, &value_bytes)
        ops_bytes = head + prefix_bytes + key_bytes + value_bytes
        nbytes = (c.REQUEST_HEADER_BYTES + ops_bytes + 7) & ~<uint64_t>7
        if nbytes > c.RING_BYTES // 2:
            batch = BatchBuffer(prefix)
            batch.add(kind, k, <uint32_t>key_bytes, v, <uint32_t>value_bytes, expires_us)
            return self.commit(batch, durability)
        deadline_ns = monotonic_ns() + self.timeout_ns
        record = self.reserve(nbytes, deadline_ns)
        p = record + c.REQUEST_HEADER_BYTES
        put_u32(p, (prefix_bytes + <uint32_t>key_bytes) | <uint32_t>kind << 24)
        put_u32(p + 4, <uint32_t>value_bytes)
        if head == 16:
            put_u64(p + 8, expires_us)
        p += head
        memcpy(p, PyBytes_AS_STRING(prefix), prefix_bytes)
        memcpy(p + prefix_bytes, k, key_bytes)
        memcpy(p + prefix_bytes + key_bytes, v, value_bytes)
        request_no = self.push(record, nbytes, durability, <uint32_t>ops_bytes, 1, deadline_ns,
                               durability != c.DURABILITY_ASYNC)
        if durability == c.DURABILITY_ASYNC:
            return 1
        return self.wait(request_no, deadline_ns)

    def commit(self, BatchBuffer batch not None, int durability, *, uint64_t generation=0,
               uint64_t snapshot_seq=0, bytes checks=b"", uint64_t expiry_us=0):
        """Commit a batch as one; returns its last sequence + 1.

        Shape:   durability, a DURABILITY_* of layout; generation, snapshot_seq and checks: only if
                 nothing that the checks (CHECK_* of layout) name has changed since that sequence
                 of that generation; expiry_us: nor if T has reached this.
        Raises:  ConflictError, HistoryGoneError and what `put` raises; what atomic operations of
                 the batch raise.
        """
        return self._commit(batch, durability, generation, snapshot_seq, checks, expiry_us)

    def commit_replied(self, BatchBuffer batch not None, int durability, *, uint64_t generation=0,
                       uint64_t snapshot_seq=0, bytes checks=b"", uint64_t expiry_us=0):
        """Commit a batch with atomic operations, as `commit`, and return what they came to.

        Returns: (last sequence, how many of them wrote something, whether the result fits 64
                 bits, the result of the last that has one: see kernel/atomics.pxd).
        """
        cdef uint64_t seq = self._commit(batch, durability, generation, snapshot_seq, checks,
                                         expiry_us)
        # Under the GIL since the answer was taken.
        return (seq - 1, self.last_reply.applied, self.last_reply.unfit == 0,
                self.last_reply.result)

    cdef uint64_t _commit(self, BatchBuffer batch, int durability, uint64_t generation,
                          uint64_t snapshot_seq, bytes checks, uint64_t expiry_us) except 0:
        cdef uint64_t request_no, large_no = 0
        cdef int64_t deadline_ns = monotonic_ns() + self.timeout_ns
        cdef bint waited = durability != c.DURABILITY_ASYNC
        self.begin_write()
        self._check_size(batch, checks)
        if self._record_bytes(batch, checks) > c.RING_BYTES // 2:
            # Waited for in any case: the segment has to outlive the coordinator's copy.
            waited = True
            large_no = self._large_create(
                (<const char *>batch.base)[:batch.nbytes] + checks if batch.nbytes else checks)
        try:
            request_no = self._push_batch(batch, durability, generation, snapshot_seq, checks,
                                          expiry_us, large_no, deadline_ns, waited)
            if not waited:
                return 1
            return self.wait(request_no, deadline_ns)
        finally:
            if large_no:
                self._large_drop(large_no)

    cdef int _check_size(self, BatchBuffer batch, bytes checks) except -1:
        cdef uint64_t bytes_max = load64_relaxed(self.control + c.CONTROL_BATCH_BYTES_MAX)
        if batch.nbytes > bytes_max:
            raise BatchTooLargeError(f"the batch has {batch.nbytes} bytes; at most {bytes_max} "
                                     "(half a memtable) are allowed")
        if len(checks) > CHECKS_BYTES_MAX:
            raise TransactionTooLargeError(
                f"what the transaction has read takes {len(checks)} bytes to check; at most "
                f"{CHECKS_BYTES_MAX} are allowed: read ranges by scan, or less")
        return 0

    cdef uint64_t _record_bytes(self, BatchBuffer batch, bytes checks) noexcept:
        return (c.REQUEST_HEADER_BYTES + ((batch.nbytes + 7) & ~<uint64_t>7)
                + ((<uint64_t>len(checks) + 7) & ~<uint64_t>7))

    cdef uint64_t _push_batch(self, BatchBuffer batch, int durability, uint64_t generation,
                              uint64_t snapshot_seq, bytes checks, uint64_t expiry_us,
                              uint64_t large_no, int64_t deadline_ns, bint waited) except 0:
        cdef uint64_t checks_bytes = len(checks), nbytes = c.REQUEST_HEADER_BYTES
        cdef uint8_t *record
        if large_no == 0:
            nbytes = self._record_bytes(batch, checks)
        record = self.reserve(nbytes, deadline_ns)
        if batch.is_atomic:
            record[c.REQUEST_TYPE] = c.REQUEST_ATOMIC
        put_u64(record + c.REQUEST_GENERATION, generation)
        put_u64(record + c.REQUEST_SNAPSHOT_SEQ, snapshot_seq)
        put_u64(record + c.REQUEST_EXPIRY_US, expiry_us)
        put_u32(record + c.REQUEST_CHECKS_BYTES, <uint32_t>checks_bytes)
        put_u64(record + c.REQUEST_LARGE_NO, large_no)
        if large_no == 0:
            if batch.nbytes:
                memcpy(record + c.REQUEST_HEADER_BYTES, batch.base, batch.nbytes)
            if checks_bytes:
                memcpy(record + nbytes - ((checks_bytes + 7) & ~<uint64_t>7),
                       PyBytes_AS_STRING(checks), checks_bytes)
        return self.push(record, nbytes, durability, <uint32_t>batch.nbytes, batch.count,
                         deadline_ns, waited)

    def _large_create(self, bytes ops):
        raise UnavailableError("the service is gone")

    def _large_drop(self, uint64_t number):
        pass

    def ask(self, bytes ops not None):
        """Ask the coordinator for something (shm/control_request.py); returns its ticket."""
        cdef uint64_t nbytes = c.REQUEST_HEADER_BYTES + ((<uint64_t>len(ops) + 7) & ~<uint64_t>7)
        cdef int64_t deadline_ns = monotonic_ns() + self.timeout_ns
        cdef uint8_t *record
        if self.alive == NULL or self.alive[0] != 1:
            self._revive()
        if nbytes > c.RING_BYTES // 2:
            raise BatchTooLargeError("a request that does not fit the ring")
        record = self.reserve(nbytes, deadline_ns)
        record[c.REQUEST_TYPE] = c.REQUEST_CONTROL
        memcpy(record + c.REQUEST_HEADER_BYTES, PyBytes_AS_STRING(ops), len(ops))
        return self.wait(self.push(record, nbytes, c.DURABILITY_OS, <uint32_t>len(ops), 0,
                                   deadline_ns, True), deadline_ns) - 1

    def submit(self, BatchBuffer batch not None, int durability, *, uint64_t generation=0,
               uint64_t snapshot_seq=0, bytes checks=b"", uint64_t expiry_us=0):
        """Push a batch without waiting for its answer; returns its request number for `poll`.

        Raises:  BatchTooLargeError, a batch that does not fit the ring; BusyError, no room in time.
        """
        if self._record_bytes(batch, checks) > c.RING_BYTES // 2:
            raise BatchTooLargeError("a batch that is only submitted has to fit the ring")
        return self._push_batch(batch, durability, generation, snapshot_seq, checks, expiry_us, 0,
                                monotonic_ns() + self.timeout_ns, True)

    def poll(self, uint64_t request_no):
        """Return what became of a submitted batch, None while it is unanswered.

        To be called until it answers: the completion is kept for it.
        Returns: (wire code or 0, last sequence, applied, result), the last two of atomic
                 operations, as `commit_replied`.
        """
        cdef uint64_t index = request_no % c.COMPLETION_COUNT
        cdef uint8_t *completion = self.segment + c.COMPLETIONS_OFFSET + index * c.COMPLETION_BYTES
        self.absorb()
        if load64_acquire(completion) != request_no:
            return None
        self._take_reply(completion)
        self.waiting[index] = 0
        return (load_u32(completion + c.COMPLETION_STATUS), load_u64(completion + c.COMPLETION_SEQ),
                self.last_reply.applied, self.last_reply.result)

    cdef void _take_reply(self, const uint8_t *completion) noexcept:
        memset(&self.last_reply, 0, sizeof(AtomicReply))
        if load_u32(completion + c.COMPLETION_REPLY_BYTES) == ATOMIC_REPLY_BYTES:
            memcpy(&self.last_reply, completion + c.COMPLETION_REPLY, ATOMIC_REPLY_BYTES)

    def drain(self):
        """Wait for this process's asynchronous writes; raises what one of them was answered."""
        cdef int64_t deadline_ns = monotonic_ns() + self.timeout_ns
        while self.async_no:
            self.absorb()
            if self.done_no >= self.async_no:
                self.async_no = 0
                break
            PyErr_CheckSignals()
            if self._sleep(self.async_no, deadline_ns):
                raise UnavailableError("asynchronous writes were not answered within the time-out; "
                                       "they are still queued")
        if self.async_status:
            self.raise_async()

    def raise_async(self):
        """Raise, once, the error of an earlier asynchronous write."""
        cdef int status = self.async_status
        self.async_status = 0
        if status:
            error = self._status_error(status, 0)
            error.args = (f"an earlier asynchronous write failed: {error}",)
            raise error
