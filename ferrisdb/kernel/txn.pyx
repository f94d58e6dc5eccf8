# cython: language_level=3, boundscheck=False, wraparound=False
"""Note a transaction's reads of keys, encode its writes, and commit what only these have made.

`TxCore` is the base of `ferrisdb.Transaction`, which adds in plain Python what is rarer: scans,
atomic operations, savepoints, and what follows a lost race. A short transaction is mostly the
interpreter's work, and where many processes share a processor each finds its caches cold: so this
much of it is compiled.

Invariants
    T1  A transaction's snapshot is taken at its first read, so that one that only writes has none:
        it depends on nothing and never conflicts. One that only reads commits without asking.
    T2  Its pin is held until the verdict: were it let go before, the coordinator could forget what
        tells whether the reads still hold.
"""

from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.batch cimport BatchBuffer
from ferrisdb.kernel.client cimport Attachment, Pin
from ferrisdb.kernel.cpu cimport put_u32
from ferrisdb.kernel.port cimport CHECKS_BYTES_MAX
from ferrisdb.kernel.space cimport Space

from ferrisdb.errors import ClosedError, ConflictError, TransactionTooLargeError, UsageError


cdef class TxSpace:
    """One key space within a transaction: its reads and writes of single keys.

    Shape:   core, the transaction; None: it is this object.
    Owner:   one thread.
    """

    def __init__(self, Space space not None, TxCore core):
        self.space, self.core = space, core

    cdef TxCore owner(self):
        return <TxCore>self if self.core is None else self.core

    @property
    def transaction(self):
        """The transaction that this is a key space of; its own default one is itself."""
        return self.owner()

    # Reading

    def get(self, key, default=None):
        """Return the key's value as the transaction sees it, or `default`; counts as a read.

        Raises:  WrongTypeError, KeyTooLargeError, SnapshotTooOldError, ClosedError; for a key
                 that atomic operations of this transaction were applied to, what they raise.
        """
        value = self.owner().entry_of(self.space, key)[0]
        return default if value is None else value

    def entry(self, key):
        """Return (value or None, expiry in µs since the epoch or 0); counts as a read, as `get`."""
        return self.owner().entry_of(self.space, key)

    def multi_get(self, keys):
        """Return the values of `keys` in their order, None where absent."""
        cdef TxCore core = self.owner()
        return [core.entry_of(self.space, key)[0] for key in keys]

    def ttl(self, key):
        """Return how many seconds the key has to live, None if it has no expiry.

        Raises:  KeyError, it is absent.
        """
        cdef TxCore core = self.owner()
        value, expires_us = core.entry_of(self.space, key)
        if value is None:
            raise KeyError(key)
        return (expires_us - core.held.now_us) / 1e6 if expires_us else None

    def __getitem__(self, key):
        value = self.owner().entry_of(self.space, key)[0]
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key):
        return isinstance(key, bytes) and self.owner().entry_of(self.space, key)[0] is not None

    # Writing

    def put(self, key, value, *, ttl=None, expires_at=None):
        """Set the key; `ttl` in seconds from the commit.

        Raises:  TransactionTooLargeError, and this write is not part of it; as `Keyspace.put`.
        """
        cdef TxCore core = self.owner()
        core.begin_write(self.space)
        core.batch.put(key, value, ttl, expires_at)
        core.end_write()

    def put_until(self, key, value, uint64_t expires_us):
        """Set the key until a moment, in µs since the epoch; 0: for good. Raises: as `put`."""
        cdef TxCore core = self.owner()
        core.begin_write(self.space)
        core.batch.put_until(key, value, expires_us)
        core.end_write()

    def delete(self, key):
        """Remove the key; an absent one is no error, and nothing is read. Raises: as `put`."""
        cdef TxCore core = self.owner()
        core.begin_write(self.space)
        core.batch.delete(key)
        core.end_write()

    def delete_range(self, start, end):
        """Remove every key in [start, end); None is no bound. Raises: as `put`."""
        cdef TxCore core = self.owner()
        core.begin_write(self.space)
        core.batch.delete_range(start, end)
        core.end_write()

    def __setitem__(self, key, value):
        self.put(key, value)

    def __delitem__(self, key):
        if self.owner().entry_of(self.space, key)[0] is None:
            raise KeyError(key)
        self.delete(key)


cdef class TxCore(TxSpace):
    """A transaction: one snapshot, what was read at it, and writes that are committed together.

    Shape:   durability, DURABILITY_* of layout.
    Owner:   one thread.
    """

    def __init__(self, Space space not None, int durability, str isolation not None,
                 bint read_only):
        if isolation != "serializable" and isolation != "snapshot":
            raise UsageError(f"isolation is 'serializable' or 'snapshot', not {isolation!r}")
        space.enter()
        self.space = space
        self.durability = durability
        self.is_serializable = isolation == "serializable"
        self.read_only = read_only
        self.session = space.attached.session
        self.bytes_max = space.attached._control_word(c.CONTROL_BATCH_BYTES_MAX)
        self.batch = BatchBuffer(b"")
        self.points = {}
        self.ranges = []

    # What the Python part overrides

    def _own_entry(self, Space space, key):
        """Return the entry of a key over what this transaction wrote; None: it wrote nothing."""
        raise UsageError("this transaction reads no own writes")

    def _commit_others(self):
        """Commit what has more than reads, puts and deletes of keys."""
        raise UsageError("this transaction has points only")

    def _commit_again(self, error):
        """Deal with a commit that was refused with ConflictError or HistoryGoneError."""
        raise error

    # State

    cdef int live(self) except -1:
        cdef Attachment attached = self.space.attached
        if attached.alive == NULL or attached.alive[0] != 1:
            attached._revive()
        if self.done:
            raise ClosedError("this transaction is committed or rolled back: begin a new one")
        if self.session != attached.session:
            raise ClosedError("this transaction belongs to a closed handle, or to this fork's "
                              "parent: begin a new one")
        return 0

    cdef Pin pinned(self):
        """Return what it reads at, taken now if this is the first read (T1)."""
        self.live()
        if self.held is None:
            self.held = self.space.attached.take_pin()
        return self.held

    def pin(self):
        """Return what it reads at, taken now if this is the first read (T1)."""
        return self.pinned()

    def _hold(self, Pin pin not None):
        """Go on at another pin, and let the former go."""
        cdef Pin former = self.held
        self.held = pin
        if former is not None:
            former.release()

    def check_live(self):
        """Raise what any call raises on a transaction that has ended, or whose handle is closed."""
        self.live()

    # Reads

    cdef tuple entry_of(self, Space space, object key):
        cdef Pin pin = self.pinned()
        cdef tuple entry
        cdef bytes stored
        cdef Py_ssize_t prefix_bytes, n
        if self.batch.count:
            own = self._own_entry(space, key)
            if own is not None:
                return own
        entry = pin.entry_at(space.prefix, key)
        if self.read_only:
            return entry
        if not PyBytes_CheckExact(key):
            key = bytes(key)
        prefix_bytes, n = PyBytes_GET_SIZE(space.prefix), PyBytes_GET_SIZE(key)
        stored = PyBytes_FromStringAndSize(NULL, prefix_bytes + n)
        memcpy(PyBytes_AS_STRING(stored), PyBytes_AS_STRING(space.prefix), prefix_bytes)
        memcpy(PyBytes_AS_STRING(stored) + prefix_bytes, PyBytes_AS_STRING(key), n)
        self.note(stored, entry[1])
        return entry

    cdef int note(self, bytes stored, uint64_t expires_us) except -1:
        if stored not in self.points:
            self.points[stored] = expires_us
            self.reads_bytes += 4 + PyBytes_GET_SIZE(stored)
            if self.batch.count:
                self.check_reads()
        return 0

    def note_key(self, bytes stored not None, uint64_t expires_us):
        """Note the read of a stored key, unless reads don't matter."""
        if not self.read_only:
            self.note(stored, expires_us)

    def note_range(self, seen):
        """Note a range whose rows are being handed out, unless reads don't matter."""
        if not self.read_only:
            self.ranges.append(seen)
            self.reads_bytes += 64

    cdef int check_reads(self) except -1:
        if self.reads_bytes > CHECKS_BYTES_MAX and self.is_serializable:
            raise TransactionTooLargeError(
                f"what the transaction has read takes more than {CHECKS_BYTES_MAX} bytes to check:"
                " read ranges by scan, or less; begin it with read_only=True if it writes nothing")
        return 0

    # Writes

    cdef int begin_write(self, Space space) except -1:
        """Begin a write into a key space: what is added to `batch` until `end_write`."""
        self.live()
        if self.read_only:
            raise UsageError("this transaction was begun with read_only=True: it writes nothing")
        self.check_reads()
        self.begun_bytes, self.begun_count = self.batch.nbytes, self.batch.count
        self.begun_atomic = self.batch.is_atomic
        self.batch.prefix = space.prefix
        return 0

    cdef int end_write(self) except -1:
        """See that what was added fits, or take it back."""
        if self.batch.nbytes > self.bytes_max:
            self.batch.nbytes, self.batch.count = self.begun_bytes, self.begun_count
            self.batch.is_atomic = self.begun_atomic
            raise TransactionTooLargeError(
                f"the transaction's writes take more than {self.bytes_max} bytes (half a memtable):"
                " this one is not among them; commit what there is, or write less")
        return 0

    def _add_atomic(self, Space space not None, key, int operation, bytes operand, bytes expected,
                    int flags, uint64_t expires_us):
        """Note an atomic operation (kernel/atomics.pxd) as a write that does not read."""
        self.begin_write(space)
        self.batch.atomic(operation, key, operand, expected, flags, expires_us)
        self.end_write()

    # The end

    def commit(self):
        """Commit; the transaction is used up, whatever happens.

        With durability "async" one that has read something waits as by "os".
        Raises: ConflictError, something that was read has changed since; SnapshotTooOldError;
                BusyError, DiskFullError, KeyspaceDroppedError, NotAnIntegerError,
                IntegerOverflowError: nothing was written; CommitUnknownError.
        """
        self.live()
        self.done = True
        try:
            if self.batch.count:
                if self.batch.is_atomic or self.ranges or not self.is_serializable:
                    self._commit_others()
                else:
                    self.commit_points()
            elif self.held is not None:
                self.seq = self.held.seq
        finally:
            self.let_go()

    cdef int commit_points(self) except -1:
        cdef Attachment attached = self.space.attached
        cdef uint64_t expiry_us = 0
        cdef bytes checks
        if not self.points:
            self.seq = attached._commit(self.batch, self.durability, 0, 0, b"", 0) - 1
            return 0
        checks = self.point_checks(&expiry_us)
        try:
            self.seq = attached._commit(
                self.batch, max(self.durability, <int>c.DURABILITY_OS), self.held.generation,
                self.held.seq, checks, expiry_us) - 1
        except ConflictError as error:
            self._commit_again(error)
        return 0

    cdef bytes point_checks(self, uint64_t *expiry_us):
        """Return the checks of the keys that were read, encoded (layout.pxd), in their order."""
        cdef bytes checks = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>self.reads_bytes)
        cdef uint8_t *p = <uint8_t *>PyBytes_AS_STRING(checks)
        cdef uint64_t expiry
        cdef Py_ssize_t n
        cdef bytes stored
        for stored, expires_us in self.points.items():
            n = PyBytes_GET_SIZE(stored)
            put_u32(p, <uint32_t>n | <uint32_t>c.CHECK_KEY << 24)
            memcpy(p + 4, PyBytes_AS_STRING(stored), n)
            p += 4 + n
            expiry = expires_us
            if expiry and (expiry_us[0] == 0 or expiry < expiry_us[0]):
                expiry_us[0] = expiry
        return checks

    def finish(self):
        """Refuse every further use but `rollback`, which is to come: its verdict is another's."""
        self.live()
        self.done = True

    @classmethod
    def attempt(cls, Space space not None, fn, int durability, isolation):
        """Call `fn` with a new transaction and commit it; returns what `fn` returned.

        Raises:  what `fn` and `commit` raise: then nothing of it is committed, nor anything if
                 `fn` has rolled it back.
        """
        cdef TxCore tx = cls(space, durability, isolation, False)
        cdef Attachment attached = space.attached
        try:
            result = fn(tx)
            if not tx.done:
                tx.commit()
        finally:
            tx.done = True
            tx.let_go()
        if attached.turn.word:
            attached.turn.won(attached.doorbell)
        return result

    def rollback(self):
        """Forget everything; the transaction is used up. Once it has ended: nothing happens."""
        self.done = True
        self.let_go()

    cdef void let_go(self):
        cdef Pin pin = self.held
        self.held = None
        if pin is not None:
            pin._let_go()
            pin.view = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None and not self.done:
            self.commit()
        self.rollback()
