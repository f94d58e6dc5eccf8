# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Read in place: the part of an attached handle that must be fast.

`Attachment` is the base of `Attached`, which supplies in plain Python what is rare:
attaching, refreshing the view, finding the service again. Methods here hold the GIL while they
read, so that one pin slot (the first) serves the plain reads of all threads; whatever outlasts a
call (a snapshot, a scan) has a slot of its own.

Invariants
    A1  A read stores the epoch of its view in a slot, fences, loads `visible_seq`, and finds the
        epoch unchanged before it touches a memtable or table; it clears the slot afterwards. In
        this order, because a sequence seen after the epoch may belong to a later version: to a
        memtable that the view lacks, or to a recovery that completed what the view shows in part.
    A2 to A5 are those of the writing half, in ring.pyx.
"""

from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.batch cimport as_bytes
from ferrisdb.kernel.cpu cimport (fence_full, futex_wait, hash_bytes, load32_relaxed,
                                  load64_acquire, load_u64, monotonic_ns, pause, store32_release,
                                  store64_fenced, store64_relaxed, store64_release, wall_us)
from ferrisdb.kernel.readview cimport LOOKUP_WINDOW, NOT_OPEN, Probe, ReadView
from ferrisdb.kernel.ring cimport METRIC_GETS, METRIC_REQUESTS, METRIC_SCANS, RingProducer
from ferrisdb.kernel.source cimport Hit
from ferrisdb.kernel.turn cimport Turn

from ferrisdb import limits
from ferrisdb.errors import (ClosedError, SnapshotTooOldError, StorageError,
                             TooManySnapshotsError, UnavailableError)

cdef Py_ssize_t KEYSPACE_BYTES_MAX = limits.KEYSPACE_PREFIX_BYTES_MAX


cdef class Attachment(RingProducer):
    """One attached process's side of the shared memory; base of `attached.Attached`.

    Owner:   its process; any thread, under the GIL.
    """

    def __cinit__(self, *args, **kwargs):
        self.scratch = <uint8_t *>malloc(limits.STORED_KEY_BYTES_MAX + 16)
        if self.scratch == NULL:
            raise MemoryError()
        self.key_bytes_max = limits.KEY_BYTES_MAX

    def __dealloc__(self):
        free(self.scratch)
        free(self.window)

    # Attaching: called by the Python part

    def _set_segment(self, segment, alive):
        """Take a new client segment and the page that fork wipes; a new session begins."""
        RingProducer._set_segment(self, segment, alive)
        self.slot = self.segment + c.SLOTS_OFFSET
        memset(self.slots_taken, 0, sizeof(self.slots_taken))
        self.slots_taken[0] = 1
        store64_relaxed(self.slot + c.SLOT_SEQ, 0xFFFFFFFFFFFFFFFF)
        store32_release(self.segment + c.CLIENT_SLOTS_USED, 1)
        self.view = None
        self.turn = Turn(load_u64(self.segment + c.CLIENT_ID))

    def _set_view(self, ReadView view):
        self.view = view

    def _detach(self):
        """Refuse every further use; the maps stay until the last view of them goes."""
        RingProducer._detach(self)
        self.view = None

    # What the Python part overrides

    def _refresh(self):
        raise UnavailableError("the service is gone")

    def _order(self, pin, own):
        raise UnavailableError("the service is gone")

    # Reading

    cdef int enter(self) except -1:
        """Begin a call: attached, this process, own asynchronous writes answered."""
        if self.alive == NULL or self.alive[0] != 1:
            self._revive()
        if self.async_no:
            self.drain()
        return 0

    cdef int pin(self, uint64_t *seq) except -1:
        """Pin the current version in the first slot (A1); the caller holds the GIL until unpin.

        Returns: 1, the view is another than before, and other code has run; or 0.
        """
        cdef int moved = 0
        while True:
            if self.view is not None:
                store64_fenced(self.slot, self.view.epoch)
                seq[0] = load64_acquire(self.control + c.CONTROL_VISIBLE_SEQ)
                if (load64_acquire(self.control + c.CONTROL_EPOCH) == self.view.epoch
                        and not self.view.ranges_stale()):
                    return moved
                store64_release(self.slot, 0)
            moved = 1
            self._refresh()

    cdef int stored(self, bytes prefix, object key) except -1:
        """Put the stored key into the scratch buffer; returns its length."""
        cdef const uint8_t *k
        cdef Py_ssize_t n, prefix_bytes = PyBytes_GET_SIZE(prefix)
        if PyBytes_CheckExact(key) and PyBytes_GET_SIZE(key) <= self.key_bytes_max + (
                0 if prefix_bytes else KEYSPACE_BYTES_MAX):
            n = PyBytes_GET_SIZE(key)
            k = <const uint8_t *>PyBytes_AS_STRING(key)
        else:
            as_bytes(key, "key", &k, &n)
        if prefix_bytes == 1:
            self.scratch[0] = PyBytes_AS_STRING(prefix)[0]
        else:
            memcpy(self.scratch, PyBytes_AS_STRING(prefix), prefix_bytes)
        memcpy(self.scratch + prefix_bytes, k, n)
        return <int>(prefix_bytes + n)

    cdef bint expired(self, const Hit *hit) noexcept:
        """Tell whether a plain read has to pass over what it found: judged by T, or the clock."""
        return hit.expires_us != 0 and hit.expires_us <= max(
            wall_us(), load64_acquire(self.control + c.CONTROL_LAST_TIME_US))

    cdef int aim(self, bytes prefix, object key, Probe *probe) except -1:
        """Put the stored key into the scratch buffer, and prefetch what a lookup of it needs."""
        probe.key_bytes = <uint32_t>self.stored(prefix, key)
        probe.key = self.scratch
        return NOT_OPEN if self.view is None else self.view.aim(probe)

    cdef object value_at(self, bytes prefix, object key):
        """Return the key's value at the latest sequence, None if it is absent.

        The key is hashed, and its lines are on their way, before the pin's fence, which waits for
        every load before it: behind the fence they would come one after the other.
        """
        cdef Probe probe
        cdef object value = None
        cdef uint64_t seq
        cdef int found = self.aim(prefix, key, &probe)
        cdef int moved = self.pin(&seq)
        try:
            if moved:
                found = self.aim(prefix, key, &probe)
            if found != NOT_OPEN:
                found = self.view.find(&probe, seq)
            if found == 1 and not self.expired(&probe.hit):
                value = PyBytes_FromStringAndSize(<const char *>probe.hit.value,
                                                  probe.hit.value_bytes)
        finally:
            store64_release(self.slot, 0)
        if found == NOT_OPEN:
            self._open_wanted(self.view)
            return self.value_at(prefix, key)
        return value

    cdef int _open_wanted(self, ReadView view) except -1:
        """Open the table that a plain read lacked, with its version pinned in a slot of its own."""
        cdef uint32_t index = self.hold_epoch(view.epoch)
        if index:
            try:
                view.open_wanted()
            finally:
                self.release_epoch(index)
        return 0                                # else there is a newer version to read

    cdef list values_at(self, bytes prefix, list wanted):
        """Return the values of keys from `_wanted`, all read at one point; None where absent."""
        # Made here: a container made under the pin may set off a collection, which runs anything.
        cdef list values = [None] * len(wanted)
        cdef uint64_t seq
        cdef int found = NOT_OPEN
        while found == NOT_OPEN:
            self.pin(&seq)
            try:
                found = self._read_many(prefix, self.view, wanted, values, seq, 0)
            finally:
                store64_release(self.slot, 0)
            if found == NOT_OPEN:
                self._open_wanted(self.view)
        return values

    cdef list _wanted(self, keys):
        """Return the keys in a list of our own, all of them plain bytes of a legal length.

        Of our own: another thread may change the caller's while a version is opened. Plain bytes:
        to ask another type for its bytes may run Python code, which must not happen under a pin.
        """
        cdef list wanted = list(keys)
        cdef const uint8_t *k
        cdef Py_ssize_t n, i
        for i in range(len(wanted)):
            key = wanted[i]
            if not PyBytes_CheckExact(key) or PyBytes_GET_SIZE(key) > self.key_bytes_max:
                as_bytes(key, "key", &k, &n)
                wanted[i] = PyBytes_FromStringAndSize(<const char *>k, n)
        return wanted

    cdef int _read_many(self, bytes prefix, ReadView view, list keys, list values, uint64_t seq,
                        uint64_t now_us) except -1:
        """Set the values of keys from `_wanted`, judged by `now_us`, or by the clock if 0.

        Returns: 0, or NOT_OPEN: to be done again, from the first key on.
        """
        cdef Probe probes[LOOKUP_WINDOW]
        cdef Py_ssize_t at = 0, i, n, count = len(keys)
        cdef uint64_t room
        cdef uint8_t *buffer
        cdef Hit *hit
        cdef uint32_t prefix_bytes = <uint32_t>PyBytes_GET_SIZE(prefix)
        while at < count:
            n = min(count - at, <Py_ssize_t>LOOKUP_WINDOW)
            room = 0
            for i in range(n):
                probes[i].key_bytes = <uint32_t>(
                    prefix_bytes + PyBytes_GET_SIZE(keys[at + i]))
                room += probes[i].key_bytes
            self._make_room(room)
            buffer = self.window
            for i in range(n):
                memcpy(buffer, PyBytes_AS_STRING(prefix), prefix_bytes)
                memcpy(buffer + prefix_bytes, PyBytes_AS_STRING(keys[at + i]),
                       probes[i].key_bytes - prefix_bytes)
                probes[i].key = buffer
                buffer += probes[i].key_bytes
            if view.lookup_window(probes, <uint32_t>n, seq) == NOT_OPEN:
                return NOT_OPEN
            for i in range(n):
                hit = &probes[i].hit
                if probes[i].found and (hit.expires_us == 0 or (
                        hit.expires_us > now_us if now_us else not self.expired(hit))):
                    values[at + i] = PyBytes_FromStringAndSize(<const char *>hit.value,
                                                               hit.value_bytes)
                else:
                    values[at + i] = None
            at += n
        return 0

    cdef int _make_room(self, uint64_t nbytes) except -1:
        cdef uint8_t *grown
        if nbytes > self.window_room:
            grown = <uint8_t *>realloc(self.window, 2 * nbytes)
            if grown == NULL:
                raise MemoryError()
            self.window, self.window_room = grown, 2 * nbytes
        return 0

    def take_turn(self, bytes key not None, int64_t least_us, bint first):
        """Take the turn at a key that a transaction lost, if it is free (kernel/turn.pyx).

        Shape:   least_us, how long the transaction takes; first, whether this is asked for the
                 first time since it lost.
        Returns: 0, it is taken; else how many us the present one lasts.
        """
        if self.alive == NULL or self.alive[0] != 1:
            self._revive()
        return self.turn.take(self.doorbell, hash_bytes(<const uint8_t *>PyBytes_AS_STRING(key),
                                                        PyBytes_GET_SIZE(key)), least_us, first)

    def counters(self):
        """Return this handle's counters by name."""
        return {"gets": self.metrics[METRIC_GETS], "requests": self.metrics[METRIC_REQUESTS],
                "scans": self.metrics[METRIC_SCANS]}

    # Snapshots

    cdef uint32_t _take_slot(self) except 0:
        cdef uint32_t i
        for i in range(1, c.SLOT_COUNT):
            if not self.slots_taken[i]:
                break
        else:
            raise TooManySnapshotsError(
                f"this handle holds {c.SLOT_COUNT - 1} snapshots and scans: close some of them")
        self.slots_taken[i] = 1
        if i >= load32_relaxed(self.segment + c.CLIENT_SLOTS_USED):
            store32_release(self.segment + c.CLIENT_SLOTS_USED, i + 1)
        return i

    def take_pin(self):
        """Pin the current version and sequence in a slot of their own."""
        return self.pinned()

    cdef Pin pinned(self):
        cdef Pin pin
        cdef uint32_t i
        cdef uint64_t epoch, seq
        self.enter()
        i = self._take_slot()
        pin = Pin.__new__(Pin)
        pin.owner = self
        pin.index = i
        pin.session = self.session
        pin.slot = self.segment + c.SLOTS_OFFSET + i * c.SLOT_BYTES
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
        cdef uint32_t i = self._take_slot()
        cdef uint8_t *slot
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
        self.let_go()

    cdef int let_go(self) noexcept:
        self._let_go()
        self.view = None
        return 0

    cdef int check(self) except -1:
        """Make sure that the pin held until here; to be asked after what was read was copied."""
        if self.slot == NULL:
            raise ClosedError("this snapshot is closed")
        if (self.owner.alive == NULL or self.owner.alive[0] != 1
                or self.owner.session != self.session):
            raise ClosedError("this snapshot belongs to a closed handle, or to this fork's parent")
        if load64_acquire(self.slot + c.SLOT_REVOKED) == self.view.epoch:
            raise SnapshotTooOldError("the snapshot is older than max_snapshot_age: take a new one")
        if load64_acquire(self.owner.control + c.CONTROL_GENERATION) != self.generation:
            raise SnapshotTooOldError("the service restarted under the snapshot: take a new one")
        return 0

    def verify(self):
        """Raise what `get` would raise of a pin that is closed, revoked or of a former service."""
        self.check()

    def entry(self, bytes key not None):
        """Return (value or None, expires_us) of a stored key; an expired one is absent."""
        return self.entry_at(b"", key)

    cdef tuple entry_at(self, bytes prefix, object key):
        """Return (value or None, expires_us) that the key had at the pin."""
        cdef Hit hit
        cdef uint32_t n
        cdef object value = None
        cdef uint64_t expires_us = 0
        cdef int found = NOT_OPEN
        self.check()
        while found == NOT_OPEN:
            n = self.owner.stored(prefix, key)
            found = self.view.lookup(self.owner.scratch, n, self.seq, &hit)
            if found == NOT_OPEN:
                self.open_wanted()
        if found and (hit.expires_us == 0 or hit.expires_us > self.now_us):
            value = PyBytes_FromStringAndSize(<const char *>hit.value, hit.value_bytes)
            expires_us = hit.expires_us
        self.check()
        return value, expires_us

    cdef int open_wanted(self) except -1:
        try:
            self.view.open_wanted()
        except StorageError:
            self.check()                        # the file of a revoked snapshot may have gone
            raise
        return 0

    cdef list values_at(self, bytes prefix, list wanted):
        """Return the values that keys from `_wanted` had, None where absent."""
        cdef list values = [None] * len(wanted)
        self.check()
        while self.owner._read_many(
                prefix, self.view, wanted, values, self.seq, self.now_us) == NOT_OPEN:
            self.open_wanted()
        self.check()
        return values

    cdef bint is_ordered(self) noexcept:
        return load64_acquire(self.owner.control + c.CONTROL_ORDERED_SEQ) >= self.seq

    def wait_ordered(self, int64_t timeout_ns):
        """Wait until the memtables' order has reached the snapshot; False at the time-out."""
        cdef uint8_t *control = self.owner.control
        cdef uint64_t seq = self.seq
        cdef int64_t end
        cdef uint32_t i = 0
        cdef bint done
        if self.is_ordered():
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
