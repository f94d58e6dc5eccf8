# cython: language_level=3, boundscheck=False, wraparound=False
"""Read and write single keys of one key space: what of its face must be fast.

`Space` is the base of `ferrisdb.Keyspace` and `ferrisdb.Database`, which add in plain Python what
is made of these. Several of them share one `Attachment`, the process's hold on the database.

Invariants
    K1  Before each call the words that tell of changes of the catalogue are compared with those
        that were loaded before this key space was last found in it; so a call that begins behind
        a drop's answer fails. Writes are judged by the coordinator, too.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_AS_STRING

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.atomics cimport ATOMIC_HINT, ATOMIC_HINT_ABSENT, AtomicOp
from ferrisdb.kernel.batch cimport BatchBuffer, as_bytes, put_kind
from ferrisdb.kernel.client cimport Attachment, Pin
from ferrisdb.kernel.cpu cimport load64_acquire, monotonic_ns
from ferrisdb.kernel.ring cimport METRIC_GETS
from ferrisdb.kernel.source cimport KIND_DELETE

from ferrisdb.errors import HistoryGoneError, KeyspaceDroppedError, SnapshotTooOldError
from ferrisdb.keys import CATALOGUE_IDS, prefix_end


cdef class Space:
    """One key space, as an attached process reads and writes it.

    Shape:   attached, shared by all key spaces of a handle; prefix, put before every key;
             keyspace_id, its id in the catalogue, 0 for the default key space.
    Owner:   its process; any thread, under the GIL.
    """

    def __init__(self, Attachment attached not None, bytes prefix not None, keyspace_id=0):
        self.attached, self.prefix, self.keyspace_id = attached, prefix, keyspace_id
        self.behind = prefix_end(prefix)

    cdef int enter(self) except -1:
        """Begin a call that reads (K1)."""
        self.attached.enter()
        if self.keyspace_id:
            self.look()
        return 0

    cdef int look(self) except -1:
        cdef const uint8_t *control = self.attached.control
        cdef uint64_t generation = load64_acquire(control + c.CONTROL_GENERATION)
        cdef uint64_t keyspaces = load64_acquire(control + c.CONTROL_KEYSPACES)
        if generation == self.seen_generation and keyspaces == self.seen_keyspaces:
            return 0
        if self.attached.value_at(
                CATALOGUE_IDS, self.keyspace_id.to_bytes(4, "big")) is None:
            raise KeyspaceDroppedError(
                "this key space was dropped: create one and take a new handle of it")
        self.seen_generation, self.seen_keyspaces = generation, keyspaces
        return 0

    def check_lives(self):
        """Raise what any call raises on a closed handle and in a dropped key space."""
        self.enter()

    # Reading

    # Without a function object of Python's own a call takes 7 ns less.
    @cython.binding(False)
    @cython.embedsignature(True)
    @cython.embedsignature.format("clinic")
    def get(self, key, default=None):
        """Return the key's value, or `default` if it is absent.

        Raises:  WrongTypeError, KeyTooLargeError, ClosedError, KeyspaceDroppedError,
                 CorruptionError, UnavailableError.
        Cost:    no system call, no lock; a few cache misses in memory that all processes share.
        """
        self.enter()
        self.attached.metrics[METRIC_GETS] += 1
        value = self.attached.value_at(self.prefix, key)
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
        cdef list wanted = self.attached._wanted(keys)
        self.enter()
        self.attached.metrics[METRIC_GETS] += <uint64_t>len(wanted)
        return self.attached.values_at(self.prefix, wanted)

    def ttl(self, key):
        """Return how many seconds the key has to live, None if it has no expiry.

        Raises:  KeyError, it is absent; as `get`.
        """
        cdef Pin pin
        self.enter()
        pin = self.attached.pinned()
        try:
            value, expires_us = pin.entry_at(self.prefix, key)
        finally:
            pin.let_go()
        if value is None:
            raise KeyError(key)
        return (expires_us - pin.now_us) / 1e6 if expires_us else None

    def entry_at(self, Pin pin not None, key):
        """Return (value or None, expires_us) that the key had at a pin."""
        return pin.entry_at(self.prefix, key)

    def get_at(self, Pin pin not None, key, default=None):
        """Return the value that the key had at a pin, or `default`."""
        value = pin.entry_at(self.prefix, key)[0]
        return default if value is None else value

    def multi_get_at(self, Pin pin not None, keys):
        """Return the values that the keys had at a pin, None where absent."""
        return pin.values_at(self.prefix, self.attached._wanted(keys))

    # Writing

    def put(self, key, value, *, ttl=None, expires_at=None, durability=None):
        """Set the key to the value; a former expiry is forgotten.

        Shape:   ttl, seconds until the key expires, or expires_at, seconds since the epoch;
                 durability, "sync", "os" or "async".
        Raises:  WrongTypeError, KeyTooLargeError, ValueTooLargeError, UsageError, BusyError,
                 DiskFullError, KeyspaceDroppedError: nothing written; CommitUnknownError.
        Durable: at return, as `durability` says.
        """
        cdef uint64_t expires
        cdef uint8_t kind = put_kind(ttl, expires_at, &expires)
        self.attached.put_one(self.prefix, kind, key, value, expires,
                              self.attached.durability_code(durability))

    def delete(self, key, *, durability=None):
        """Remove the key; an absent key is no error. Raises and durable: as `put`."""
        self.attached.put_one(self.prefix, KIND_DELETE, key, None, 0,
                              self.attached.durability_code(durability))

    def atomic(self, key, int operation, bytes operand not None=b"", bytes expected not None=b"",
               int flags=0, uint64_t expires_us=0, *, durability=None):
        """Have the coordinator evaluate one atomic operation (kernel/atomics.pxd) by itself.

        With it goes what the key holds, in case that no memtable knows; where that has become too
        old on the way nothing was written, and it is read and sent again.

        Shape:   durability, "async" is "os" here: who waits for a result waits for the commit.
        Returns: (whether it wrote, whether the result fits 64 bits, the result).
        Raises:  NotAnIntegerError, IntegerOverflowError, ValueTooLargeError: nothing written; what
                 `put` raises.
        """
        cdef Attachment attached = self.attached
        cdef int code = attached.durability_code(durability)
        cdef int64_t deadline_ns = monotonic_ns() + attached.timeout_ns
        cdef const uint8_t *k
        cdef Py_ssize_t n
        cdef AtomicOp op
        cdef BatchBuffer batch
        cdef Pin pin
        if code == c.DURABILITY_ASYNC:
            code = c.DURABILITY_OS
        as_bytes(key, "key", &k, &n)
        memset(&op, 0, sizeof(op))
        op.operation, op.expires_us = <uint8_t>operation, expires_us
        op.key, op.key_bytes = k, <uint32_t>n
        as_bytes(operand, "value", &op.operand, &n)
        op.operand_bytes = <uint32_t>n
        as_bytes(expected, "value", &op.expected, &n)
        op.expected_bytes = <uint32_t>n
        while True:
            self.enter()
            pin = attached.pinned()
            try:
                value, held_us = pin.entry_at(self.prefix, key)
                op.flags = <uint16_t>(flags | (
                    ATOMIC_HINT_ABSENT if value is None else ATOMIC_HINT))
                op.hint, op.hint_bytes, op.hint_expires_us = NULL, 0, 0
                if value is not None:
                    op.hint = <const uint8_t *>PyBytes_AS_STRING(value)
                    op.hint_bytes, op.hint_expires_us = <uint32_t>len(value), held_us
                batch = BatchBuffer(self.prefix)
                batch.add_atomic(&op, self.prefix)
                _, applied, fits, result = attached.commit_replied(
                    batch, code, generation=pin.generation, snapshot_seq=pin.seq)
                return applied > 0, fits, result
            except (HistoryGoneError, SnapshotTooOldError):
                if monotonic_ns() > deadline_ns:
                    raise
            finally:
                pin.let_go()
