# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Read in place and write through the ring: the part of an attached handle that must be fast.

`Attachment` is the base of `ferrisdb.Database`, which supplies in plain Python what is rare:
attaching, refreshing the view, finding the service again. Methods here hold the GIL while they
read, so that one pin slot (the first) serves the plain reads of all threads; whatever outlasts a
call (a snapshot, a scan) has a slot of its own.

Invariants
    A1  A read stores the epoch of its view in a slot, fences, loads `visible_seq`, and finds the
        epoch unchanged before it touches a memtable or table; it clears the slot afterwards. In
        this order, because a sequence seen after the epoch may belong to a later version: to a
        memtable that the view lacks, or to a recovery that completed what the view shows in part.
    A2  Nothing of the parent's segment is written in a forked child: `alive` is on a page that
        fork wipes, and is looked at first.
    A3  A request's ring space is reused only once its answer was seen, so that everything
        unanswered can be read again by the next coordinator, in order.
    A4  A completion is overwritten only after its reader took it: request n + COMPLETION_COUNT
        is not pushed before that.
    A5  Everything of the control page is read under the GIL, so that it may be replaced.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.batch cimport BatchBuffer, as_bytes, ttl_us
from ferrisdb.kernel.cpu cimport (add32, fence_full, futex_wait, futex_wake, hash_bytes,
                                  load32_acquire, load32_relaxed, load64_acquire, load64_relaxed,
                                  load_u32, load_u64, monotonic_ns, pause, put_u32, put_u64,
                                  store32_release, store64_relaxed, store64_release, wall_us)
from ferrisdb.kernel.memtable cimport Memtable
from ferrisdb.kernel.source cimport KIND_DELETE, KIND_PUT, Hit
from ferrisdb.kernel.table cimport Table
from ferrisdb.kernel.tombstones cimport RangeTombstones
from ferrisdb.kernel.wal cimport REQUEST_PUT_TTL, op_header_bytes

from ferrisdb import limits
from ferrisdb.errors import (BatchTooLargeError, ClosedError, CommitUnknownError, ProtocolError,
                             SnapshotTooOldError, TooManySnapshotsError, UnavailableError, UsageError)

cdef enum:
    RANGE_TAIL_MAX = 16         # newest range tombstones of a memtable that are searched one by one
    SPIN_NS = 20_000
    SLEEP_NS = 20_000_000       # a sleeper looks at least this often whether the service lives
    WINDOW = 16                 # keys of a multi_get whose cache misses overlap
    WINDOW_KEY_BYTES = 128
    GRACE_NS = 1_000_000_000    # the coordinator answers Busy itself; so long we wait for that

    METRIC_GETS = 0
    METRIC_REQUESTS = 1
    METRIC_SCANS = 2

cdef uint64_t EPOCH_RETIRED = <uint64_t>1 << 63
cdef dict DURABILITIES = {"async": c.DURABILITY_ASYNC, "os": c.DURABILITY_OS, "sync": c.DURABILITY_SYNC}


cdef class ReadView:
    """The memtables and tables of one epoch, newest first.

    Shape:   page, what the version page said; memtables, `Memtable`; tables, `Table`.
    """

    def __cinit__(self, uint64_t epoch, page, list memtables not None, list tables not None):
        cdef int i
        self.epoch = epoch
        self.page = page
        self.memtables = memtables
        self.tables = tables
        self.memtable_count = <int>len(memtables)
        self.table_count = <int>len(tables)
        self.memtable_at = <PyObject **>malloc((self.memtable_count + 1) * sizeof(PyObject *))
        self.table_at = <PyObject **>malloc((self.table_count + 1) * sizeof(PyObject *))
        self.ranges_held = <uint32_t *>calloc(self.memtable_count + 1, sizeof(uint32_t))
        if not self.memtable_at or not self.table_at or not self.ranges_held:
            raise MemoryError()
        for i in range(self.memtable_count):
            self.memtable_at[i] = <PyObject *>(<Memtable?>memtables[i])
        for i in range(self.table_count):
            self.table_at[i] = <PyObject *>(<Table?>tables[i])
            if (<Table>tables[i]).has_tombstones:
                self.tables_have_ranges = True
        self.ranges = [None] * self.memtable_count

    def __dealloc__(self):
        free(self.memtable_at)
        free(self.table_at)
        free(self.ranges_held)

    cdef bint ranges_stale(self) noexcept:
        cdef int i
        for i in range(self.memtable_count):
            if (<Memtable>self.memtable_at[i]).range_count() > self.ranges_held[i] + RANGE_TAIL_MAX:
                return True
        return False

    def refresh_ranges(self):
        """Fragment the range tombstones that have come since the last time."""
        cdef int i
        for i in range(self.memtable_count):
            memtable = self.memtables[i]
            if memtable.range_tombstone_count > self.ranges_held[i]:
                found = memtable.range_tombstones()
                self.ranges[i] = RangeTombstones(found)
                self.ranges_held[i] = <uint32_t>len(found)

    def all_ranges(self):
        """Return the range tombstones of every source that has some, fragmented."""
        self.refresh_ranges()
        found = [r for r in self.ranges if r is not None]
        for table in self.tables:
            if table.has_tombstones:
                found.append(table.range_tombstones())
        return found

    cdef uint64_t covering(self, int i, const uint8_t *key, uint32_t key_bytes,
                           uint64_t snapshot_seq) except? 1:
        """Return the newest range tombstone <= snapshot of memtable i over the key, 0 if none."""
        cdef Memtable memtable = <Memtable>self.memtable_at[i]
        cdef uint64_t seq
        seq = memtable.covering_tail(key, key_bytes, snapshot_seq, self.ranges_held[i])
        if seq == 0 and self.ranges_held[i]:
            seq = (<RangeTombstones>self.ranges[i]).covering(key, key_bytes, snapshot_seq)
        return seq

    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes, uint64_t snapshot_seq, Hit *out) except -1:
        """Find the key's newest version at the snapshot. 1: found, live unless expired; 0: absent.

        Sources are ordered in time: what a source says of a key, older ones can't change. So the
        first version found decides, together with the range tombstones met until then.
        """
        cdef uint64_t hash = hash_bytes(key, key_bytes), covered = 0
        cdef int i
        cdef Memtable memtable
        cdef Table table
        for i in range(self.memtable_count):
            (<Memtable>self.memtable_at[i]).prefetch(hash)
        for i in range(self.table_count):
            (<Table>self.table_at[i]).prefetch(hash)
        for i in range(self.memtable_count):
            memtable = <Memtable>self.memtable_at[i]
            if memtable.range_count():
                covered = self.covering(i, key, key_bytes, snapshot_seq)
            if memtable.lookup(key, key_bytes, hash, snapshot_seq, out):
                return out.kind != KIND_DELETE and out.seq > covered
            if covered:
                return 0
        for i in range(self.table_count):
            table = <Table>self.table_at[i]
            if table.has_tombstones:
                covered = table.covering_seq(key, key_bytes, snapshot_seq)
            if table.lookup(key, key_bytes, hash, snapshot_seq, out):
                return out.kind != KIND_DELETE and out.seq > covered
            if covered:
                return 0
        return 0


cdef class Attachment:
    """One attached process's side of the shared memory; base of `ferrisdb.Database`.

    Owner:   its process; any thread, under the GIL.
    """

    def __cinit__(self, *args, **kwargs):
        self.scratch = <uint8_t *>malloc(limits.STORED_KEY_BYTES_MAX + 16)
        if self.scratch == NULL:
            raise MemoryError()
        self._maps = []
        self.default_durability = c.DURABILITY_SYNC
        self.timeout_ns = 30_000_000_000
        self.cpu_count = 1

    def __dealloc__(self):
        free(self.scratch)

    # Attaching: called by the Python part

    def _set_prefix(self, bytes prefix not None):
        self.prefix = prefix
        self.prefix_bytes = <uint32_t>len(prefix)
        memcpy(self.scratch, PyBytes_AS_STRING(prefix), self.prefix_bytes)

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
        cdef uint8_t[::1] page = alive
        cdef uint64_t i
        self.segment = &words[0]
        self.slot = self.segment + c.SLOTS_OFFSET
        self.metrics = <uint64_t *>(self.segment + c.METRICS_OFFSET)
        self._maps.append((words, page))
        self.tail = self.done_pos = 0
        self.next_no = 1
        self.done_no = 0
        self.async_no = 0
        self.async_status = 0
        memset(self.waiting, 0, sizeof(self.waiting))
        memset(self.slots_taken, 0, sizeof(self.slots_taken))
        self.slots_taken[0] = 1
        store64_relaxed(self.slot + c.SLOT_SEQ, 0xFFFFFFFFFFFFFFFF)
        self.view = None
        self.session += 1
        store32_release(self.segment + c.CLIENT_SLOTS_USED, 1)
        self.alive = <uint32_t *>&page[0]
        self.alive[0] = 1

    def _set_view(self, ReadView view):
        self.view = view

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
        self.view = None

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

    def _refresh(self):
        raise UnavailableError("the service is gone")

    def _check_service(self, deadline_ns):
        raise UnavailableError("the service is gone")

    def _status_error(self, code, detail):
        return ProtocolError(f"request answered with code {code}")

    # Reading

    cdef int enter(self) except -1:
        """Begin a call: attached, this process, own asynchronous writes answered."""
        if self.alive == NULL or self.alive[0] != 1:
            self._revive()
        if self.async_no:
            self.drain()
        return 0

    cdef int pin(self, uint64_t *seq) except -1:
        """Pin the current version in the first slot (A1); the caller holds the GIL until unpin."""
        while True:
            if self.view is not None:
                store64_relaxed(self.slot, self.view.epoch)
                fence_full()
                seq[0] = load64_acquire(self.control + c.CONTROL_VISIBLE_SEQ)
                if (load64_acquire(self.control + c.CONTROL_EPOCH) == self.view.epoch
                        and not self.view.ranges_stale()):
                    return 0
                store64_release(self.slot, 0)
            self._refresh()

    cdef int stored(self, object key) except -1:
        """Put the stored key into the scratch buffer; returns its length."""
        cdef const uint8_t *k
        cdef Py_ssize_t n
        as_bytes(key, "key", &k, &n)
        memcpy(self.scratch + self.prefix_bytes, k, n)
        return <int>(self.prefix_bytes + n)

    cdef object value_at(self, object key):
        """Return the key's value at the latest sequence, None if it is absent."""
        cdef Hit hit
        cdef object value = None
        cdef uint64_t seq
        cdef uint32_t n
        self.pin(&seq)
        try:
            # Behind the pin: to pin may run Python code, and other threads use the buffer too.
            n = self.stored(key)
            if self.view.lookup(self.scratch, n, seq, &hit):
                if hit.expires_us == 0 or hit.expires_us > wall_us():
                    value = PyBytes_FromStringAndSize(<const char *>hit.value, hit.value_bytes)
        finally:
            store64_release(self.slot, 0)
        return value

    def get(self, key, default=None):
        """Return the key's value, or `default` if it is absent.

        Raises:  WrongTypeError, KeyTooLargeError, ClosedError, CorruptionError, UnavailableError.
        Cost:    no system call, no lock; a few cache misses in memory that all processes share.
        """
        self.enter()
        self.metrics[METRIC_GETS] += 1
        value = self.value_at(key)
        return default if value is None else value

    def __contains__(self, key):
        """Tell whether the key is present; a key of another type never is."""
        if not isinstance(key, bytes):
            return False
        return self.get(key) is not None

    def multi_get(self, keys):
        """Return the values of `keys` in their order, None where absent, all read at one point.

        Raises:  as `get`.
        Cost:    less a key than `get`: the cache misses of sixteen keys overlap.
        """
        # A copy: another thread may change the caller's list while a version is opened.
        cdef list wanted = list(keys)
        cdef list values = [None] * len(wanted)
        cdef uint64_t seq
        cdef Py_ssize_t i, n
        self.enter()
        for i in range(len(wanted)):
            self.stored(wanted[i])                  # raises before anything is pinned
        self.metrics[METRIC_GETS] += <uint64_t>len(wanted)
        self.pin(&seq)
        try:
            self._read_many(self.view, wanted, values, seq, 0)
        finally:
            store64_release(self.slot, 0)
        return values

    cdef int _read_many(self, ReadView view, list keys, list values, uint64_t seq, uint64_t now_us) except -1:
        cdef uint8_t window[WINDOW * WINDOW_KEY_BYTES]
        cdef Py_ssize_t at = 0, i, n, count = len(keys)
        cdef const uint8_t *k
        cdef uint64_t hash
        cdef int m
        cdef Hit hit
        cdef uint32_t key_bytes
        while at < count:
            n = min(count - at, WINDOW)
            for i in range(n):
                key_bytes = self.stored(keys[at + i])
                hash = hash_bytes(self.scratch, key_bytes)
                for m in range(view.memtable_count):
                    (<Memtable>view.memtable_at[m]).prefetch(hash)
                for m in range(view.table_count):
                    (<Table>view.table_at[m]).prefetch(hash)
            for i in range(n):
                key_bytes = self.stored(keys[at + i])
                if view.lookup(self.scratch, key_bytes, seq, &hit):
                    if hit.expires_us == 0 or hit.expires_us > (now_us if now_us else wall_us()):
                        values[at + i] = PyBytes_FromStringAndSize(<const char *>hit.value, hit.value_bytes)
            at += n
        return 0

    # Writing

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

    cdef uint8_t *reserve(self, uint64_t nbytes, int64_t deadline_ns) except NULL:
        """Find room for a record in the ring, waiting for answers if it is full (A3, A4)."""
        cdef uint64_t at, pad
        while True:
            at = self.tail % c.RING_BYTES
            pad = c.RING_BYTES - at if nbytes > c.RING_BYTES - at else 0
            if (self.tail + pad + nbytes - self.done_pos <= c.RING_BYTES
                    and self.next_no - self.done_no < c.COMPLETION_COUNT
                    and self.waiting[self.next_no % c.COMPLETION_COUNT] == 0):
                break
            self.absorb()
            if (self.tail + pad + nbytes - self.done_pos <= c.RING_BYTES
                    and self.next_no - self.done_no < c.COMPLETION_COUNT
                    and self.waiting[self.next_no % c.COMPLETION_COUNT] == 0):
                break
            if monotonic_ns() > deadline_ns:
                raise self._status_error(51, 0)
            self._sleep(self.done_no + 1, deadline_ns)
            PyErr_CheckSignals()
            if self.alive[0] != 1:
                raise ClosedError("this handle was closed by another thread")
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
        record[c.REQUEST_TYPE] = c.REQUEST_BATCH
        record[c.REQUEST_DURABILITY] = <uint8_t>durability
        put_u64(record + c.REQUEST_NO, request_no)
        put_u64(record + c.REQUEST_UNANSWERED_NO, self.done_no + 1)
        put_u64(record + c.REQUEST_DEADLINE_NS, <uint64_t>deadline_ns)
        put_u32(record + c.REQUEST_OPS_BYTES, ops_bytes)
        put_u32(record + c.REQUEST_COUNT_, count)
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
        cdef uint32_t i
        end = min(end, begin + SPIN_NS)
        while now < end:
            for i in range(8):
                if load64_acquire(completion) == request_no:
                    now = monotonic_ns()
                    self.spin_ns = (self.spin_ns * 7 + now - begin) // 8 if self.spin_ns else now - begin
                    self.spins_in_vain = 0
                    return
                pause()
            now = monotonic_ns()
        self.spins_in_vain += 1
        if self.spins_in_vain >= 4:
            self.spin_ns = 0

    cdef uint64_t wait(self, uint64_t request_no, int64_t deadline_ns) except 0:
        """Wait for the answer; returns the commit's last sequence + 1, raises the answer's error."""
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
        self.waiting[index] = 0
        if status:
            raise self._status_error(status, seq)
        return seq + 1

    cdef int _sleep(self, uint64_t request_no, int64_t deadline_ns) except -1:
        """Sleep once, at most SLEEP_NS, unless the request is answered; then look after the service.

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

    cdef uint64_t put_one(self, uint8_t kind, object key, object value, uint64_t expires_us,
                          int durability) except 0:
        cdef const uint8_t *k
        cdef const uint8_t *v = NULL
        cdef Py_ssize_t key_bytes, value_bytes = 0
        cdef uint64_t ops_bytes, nbytes, request_no
        cdef uint32_t head = op_header_bytes(kind)
        cdef uint8_t *record
        cdef uint8_t *p
        cdef int64_t deadline_ns
        cdef BatchBuffer batch
        if self.alive == NULL or self.alive[0] != 1:
            self._revive()
        as_bytes(key, "key", &k, &key_bytes)
        if kind != KIND_DELETE:
            as_bytes(value, "value", &v, &value_bytes)
        if self.async_status:
            self.raise_async()
        ops_bytes = head + self.prefix_bytes + key_bytes + value_bytes
        nbytes = (c.REQUEST_HEADER_BYTES + ops_bytes + 7) & ~<uint64_t>7
        if nbytes > c.RING_BYTES // 2:
            batch = BatchBuffer(self.prefix)
            batch.add(kind, k, <uint32_t>key_bytes, v, <uint32_t>value_bytes, expires_us)
            return self.commit(batch, durability)
        deadline_ns = monotonic_ns() + self.timeout_ns
        record = self.reserve(nbytes, deadline_ns)
        p = record + c.REQUEST_HEADER_BYTES
        put_u32(p, (self.prefix_bytes + <uint32_t>key_bytes) | <uint32_t>kind << 24)
        put_u32(p + 4, <uint32_t>value_bytes)
        if head == 16:
            put_u64(p + 8, expires_us)
        p += head
        memcpy(p, PyBytes_AS_STRING(self.prefix), self.prefix_bytes)
        memcpy(p + self.prefix_bytes, k, key_bytes)
        memcpy(p + self.prefix_bytes + key_bytes, v, value_bytes)
        request_no = self.push(record, nbytes, durability, <uint32_t>ops_bytes, 1, deadline_ns,
                               durability != c.DURABILITY_ASYNC)
        if durability == c.DURABILITY_ASYNC:
            return 1
        return self.wait(request_no, deadline_ns)

    def put(self, key, value, *, ttl=None, durability=None):
        """Set the key to the value; a former expiry is forgotten.

        Shape:   ttl, seconds until the key expires; durability, "sync", "os" or "async".
        Raises:  WrongTypeError, KeyTooLargeError, ValueTooLargeError, UsageError, BusyError,
                 DiskFullError: nothing written; CommitUnknownError.
        Durable: at return, as `durability` says.
        """
        cdef uint64_t expires = 0
        if ttl is not None:
            expires = ttl_us(ttl)
        self.put_one(REQUEST_PUT_TTL if expires else KIND_PUT, key, value, expires,
                     self.durability_code(durability))

    def delete(self, key, *, durability=None):
        """Remove the key; an absent key is no error. Raises and durable: as `put`."""
        self.put_one(KIND_DELETE, key, None, 0, self.durability_code(durability))

    def commit(self, BatchBuffer batch not None, int durability, *, uint64_t generation=0,
               uint64_t snapshot_seq=0, bytes checks=b"", uint64_t expiry_us=0):
        """Commit a batch as one; returns its last sequence + 1.

        Shape:   durability, a DURABILITY_* of layout; generation, snapshot_seq and checks: only if
                 none of the keys in `checks` (u32 length, stored key, repeated) has changed since
                 that sequence of that generation; expiry_us: nor if T has reached this.
        Raises:  ConflictError and what `put` raises.
        """
        cdef uint64_t nbytes, request_no, checks_bytes = len(checks), large_no = 0
        cdef uint64_t inline_bytes = batch.nbytes
        cdef int64_t deadline_ns = monotonic_ns() + self.timeout_ns
        cdef uint8_t *record
        cdef bint waited = durability != c.DURABILITY_ASYNC
        if self.alive == NULL or self.alive[0] != 1:
            self._revive()
        if self.async_status:
            self.raise_async()
        if batch.nbytes > load64_relaxed(self.control + c.CONTROL_BATCH_BYTES_MAX):
            raise BatchTooLargeError(
                f"the batch has {batch.nbytes} bytes; at most "
                f"{load64_relaxed(self.control + c.CONTROL_BATCH_BYTES_MAX)} (half a memtable) are allowed")
        if c.REQUEST_HEADER_BYTES + checks_bytes + 16 > c.RING_BYTES // 2:
            raise BatchTooLargeError("too many keys were read in one transaction")
        nbytes = c.REQUEST_HEADER_BYTES + ((batch.nbytes + 7) & ~<uint64_t>7) + ((checks_bytes + 7) & ~<uint64_t>7)
        if nbytes > c.RING_BYTES // 2:
            # Waited for in any case: the segment has to outlive the coordinator's copy.
            waited = True
            large_no = self._large_create((<const char *>batch.base)[:batch.nbytes])
            inline_bytes = 0
            nbytes = c.REQUEST_HEADER_BYTES + ((checks_bytes + 7) & ~<uint64_t>7)
        try:
            record = self.reserve(nbytes, deadline_ns)
            put_u64(record + c.REQUEST_GENERATION, generation)
            put_u64(record + c.REQUEST_SNAPSHOT_SEQ, snapshot_seq)
            put_u64(record + c.REQUEST_EXPIRY_US, expiry_us)
            put_u32(record + c.REQUEST_CHECKS_BYTES, <uint32_t>checks_bytes)
            put_u64(record + c.REQUEST_LARGE_NO, large_no)
            if inline_bytes:
                memcpy(record + c.REQUEST_HEADER_BYTES, batch.base, inline_bytes)
            memcpy(record + nbytes - ((checks_bytes + 7) & ~<uint64_t>7), PyBytes_AS_STRING(checks), checks_bytes)
            request_no = self.push(record, nbytes, durability, <uint32_t>batch.nbytes, batch.count,
                                   deadline_ns, waited)
            if not waited:
                return 1
            return self.wait(request_no, deadline_ns)
        finally:
            if large_no:
                self._large_drop(large_no)

    def _large_create(self, bytes ops):
        raise UnavailableError("the service is gone")

    def _large_drop(self, uint64_t number):
        pass

    def submit(self, BatchBuffer batch not None, int durability):
        """Push a batch without waiting for its answer; returns its request number for `poll`.

        Raises:  BatchTooLargeError, a batch that does not fit the ring; BusyError, no room in time.
        """
        cdef uint64_t nbytes = c.REQUEST_HEADER_BYTES + ((batch.nbytes + 7) & ~<uint64_t>7)
        cdef int64_t deadline_ns = monotonic_ns() + self.timeout_ns
        cdef uint8_t *record
        if nbytes > c.RING_BYTES // 2:
            raise BatchTooLargeError("a batch that is only submitted has to fit the ring")
        record = self.reserve(nbytes, deadline_ns)
        if batch.nbytes:
            memcpy(record + c.REQUEST_HEADER_BYTES, batch.base, batch.nbytes)
        return self.push(record, nbytes, durability, <uint32_t>batch.nbytes, batch.count,
                         deadline_ns, True)

    def poll(self, uint64_t request_no):
        """Return (wire code or 0, last sequence) of a submitted batch, None while unanswered.

        To be called until it answers: the completion is kept for it.
        """
        cdef uint64_t index = request_no % c.COMPLETION_COUNT
        cdef uint8_t *completion = self.segment + c.COMPLETIONS_OFFSET + index * c.COMPLETION_BYTES
        self.absorb()
        if load64_acquire(completion) != request_no:
            return None
        self.waiting[index] = 0
        return load_u32(completion + c.COMPLETION_STATUS), load_u64(completion + c.COMPLETION_SEQ)

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

    def counters(self):
        """Return this handle's counters by name."""
        return {"gets": self.metrics[METRIC_GETS], "requests": self.metrics[METRIC_REQUESTS],
                "scans": self.metrics[METRIC_SCANS]}

    # Snapshots

    def take_pin(self):
        """Pin the current version and sequence in a slot of their own."""
        cdef Pin pin
        cdef uint32_t i
        cdef uint64_t epoch, seq
        self.enter()
        for i in range(1, c.SLOT_COUNT):
            if not self.slots_taken[i]:
                break
        else:
            raise TooManySnapshotsError(
                f"this handle holds {c.SLOT_COUNT - 1} snapshots and scans: close some of them")
        pin = Pin.__new__(Pin)
        pin.owner = self
        pin.index = i
        pin.session = self.session
        pin.slot = self.segment + c.SLOTS_OFFSET + i * c.SLOT_BYTES
        self.slots_taken[i] = 1
        if i >= load32_relaxed(self.segment + c.CLIENT_SLOTS_USED):
            store32_release(self.segment + c.CLIENT_SLOTS_USED, i + 1)
        store64_relaxed(pin.slot + c.SLOT_REVOKED, 0)
        while True:
            if self.view is None or self.view.ranges_stale():
                self._refresh()
            epoch = self.view.epoch
            seq = load64_acquire(self.control + c.CONTROL_VISIBLE_SEQ)
            pin.generation = load64_acquire(self.control + c.CONTROL_GENERATION)
            pin.now_us = max(wall_us(), load64_acquire(self.control + c.CONTROL_LAST_TIME_US))
            store64_relaxed(pin.slot + c.SLOT_SEQ, seq)
            store64_relaxed(pin.slot + c.SLOT_NOW_US, pin.now_us)
            store64_relaxed(pin.slot + c.SLOT_BORN_NS, <uint64_t>monotonic_ns())
            store64_release(pin.slot + c.SLOT_EPOCH, epoch)
            fence_full()
            if (load64_acquire(self.control + c.CONTROL_EPOCH) == epoch
                    and load64_acquire(self.control + c.CONTROL_GC_FLOOR) <= seq):
                pin.view = self.view
                pin.seq = seq
                return pin
            store64_release(pin.slot + c.SLOT_EPOCH, 0)
            if load64_acquire(self.control + c.CONTROL_EPOCH) != epoch:
                self._refresh()

    def hold_epoch(self, uint64_t epoch):
        """Pin an epoch while its version is opened; returns the slot's index, 0 if it has moved."""
        cdef uint32_t i
        cdef uint8_t *slot
        for i in range(1, c.SLOT_COUNT):
            if not self.slots_taken[i]:
                break
        else:
            raise TooManySnapshotsError("every slot is taken: close some snapshots or scans")
        self.slots_taken[i] = 1
        if i >= load32_relaxed(self.segment + c.CLIENT_SLOTS_USED):
            store32_release(self.segment + c.CLIENT_SLOTS_USED, i + 1)
        slot = self.segment + c.SLOTS_OFFSET + i * c.SLOT_BYTES
        store64_relaxed(slot + c.SLOT_SEQ, 0xFFFFFFFFFFFFFFFF)
        store64_relaxed(slot + c.SLOT_BORN_NS, <uint64_t>monotonic_ns())
        store64_release(slot + c.SLOT_EPOCH, epoch)
        fence_full()
        if load64_acquire(self.control + c.CONTROL_EPOCH) == epoch:
            return i
        self.release_epoch(i)
        return 0

    def release_epoch(self, uint32_t index):
        """Give back a slot of `hold_epoch`."""
        if 0 < index < c.SLOT_COUNT and self.alive != NULL and self.alive[0] == 1:
            store64_release(self.segment + c.SLOTS_OFFSET + index * c.SLOT_BYTES, 0)
            self.slots_taken[index] = 0


cdef class Pin:
    """A version and a sequence that stay readable until release; made by `take_pin`."""

    def __dealloc__(self):
        self._let_go()

    cdef void _let_go(self) noexcept:
        # A2: in a forked child, and after close, the slot isn't ours any more.
        if self.slot != NULL and self.owner is not None:
            if (self.owner.alive != NULL and self.owner.alive[0] == 1
                    and self.owner.session == self.session):
                store64_release(self.slot + c.SLOT_EPOCH, 0)
                self.owner.slots_taken[self.index] = 0
        self.slot = NULL

    def release(self):
        """Unpin; the pin can't be read through afterwards."""
        self._let_go()
        self.view = None

    cdef int check(self) except -1:
        """Make sure that the pin held until here; to be asked after what was read was copied."""
        if self.slot == NULL:
            raise ClosedError("this snapshot is closed")
        if self.owner.alive == NULL or self.owner.alive[0] != 1 or self.owner.session != self.session:
            raise ClosedError("this snapshot belongs to a closed handle, or to the parent of this fork")
        if load64_acquire(self.slot + c.SLOT_REVOKED) == self.view.epoch:
            raise SnapshotTooOldError("the snapshot is older than max_snapshot_age: take a new one")
        if load64_acquire(self.owner.control + c.CONTROL_GENERATION) != self.generation:
            raise SnapshotTooOldError("the service restarted under the snapshot: take a new one")
        return 0

    def verify(self):
        """Raise what `get` would raise of a pin that is closed, revoked or of a former service."""
        self.check()

    def get(self, key, default=None):
        """Return the value that the key had at the snapshot, or `default`."""
        cdef Hit hit
        cdef uint32_t n
        cdef object value = None
        self.check()
        n = self.owner.stored(key)
        if self.view.lookup(self.owner.scratch, n, self.seq, &hit):
            if hit.expires_us == 0 or hit.expires_us > self.now_us:
                value = PyBytes_FromStringAndSize(<const char *>hit.value, hit.value_bytes)
        self.check()
        return default if value is None else value

    def entry(self, key):
        """Return (value or None, expires_us) at the snapshot; an expired one is absent."""
        cdef Hit hit
        cdef uint32_t n
        cdef object value = None
        cdef uint64_t expires_us = 0
        self.check()
        n = self.owner.stored(key)
        if self.view.lookup(self.owner.scratch, n, self.seq, &hit):
            if hit.expires_us == 0 or hit.expires_us > self.now_us:
                value = PyBytes_FromStringAndSize(<const char *>hit.value, hit.value_bytes)
                expires_us = hit.expires_us
        self.check()
        return value, expires_us

    def multi_get(self, keys):
        """Return the values of `keys` at the snapshot, None where absent."""
        cdef list wanted = keys if type(keys) is list else list(keys)
        cdef list values = [None] * len(wanted)
        self.check()
        self.owner._read_many(self.view, wanted, values, self.seq, self.now_us)
        self.check()
        return values

    def wait_ordered(self, int64_t timeout_ns):
        """Wait until the memtables' order has reached the snapshot; False at the time-out."""
        cdef uint8_t *control = self.owner.control
        cdef uint64_t seq = self.seq
        cdef int64_t end
        cdef uint32_t i = 0, word
        cdef bint done
        if load64_acquire(control + c.CONTROL_ORDERED_SEQ) >= seq:
            return True
        end = monotonic_ns() + timeout_ns
        with nogil:
            while True:
                done = load64_acquire(control + c.CONTROL_ORDERED_SEQ) >= seq
                if done or monotonic_ns() > end:
                    break
                i += 1
                if i < 1000:
                    pause()
                else:
                    # Nobody wakes this word: a sleep of 50 µs.
                    futex_wait(&i, i, 50_000)
        return bool(done)
