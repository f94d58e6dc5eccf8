# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Commit what the clients' rings hold: one thread, one group at a time.

One module, because its stages share one state: a group lives in the loop's arrays from the ring
to its answer.

Order of a group, always: requests are copied and checked, judged against the memtables and the
group's earlier requests, sealed into WAL records, written with one pwrite, synced if any request
asks for it, added to the memtable, made visible, answered; sleepers are woken last. The skip
list is completed when the rings are empty or enough is pending, because nobody but scans waits
for it.

The loop leaves to its caller, with a reason, whatever is rare: rotating, attaching, fetching a
large batch. With `fd < 0` the caller writes and syncs, too; then the same history can run on a
simulated file system.

Invariants
    L1  Bytes of a client's segment are copied before they are checked, and never read again.
    L2  A sequence is visible only after its record is written and, if its group is synced, synced.
    L3  Completions are stored after `visible_seq` (release both): who sees an answer sees the data.
    L4  Each ring is answered in order. The consumer's position is private to this loop.
    L5  After a failed sync, or a failed write that may have left something in the file, nothing
        more is committed by this object.

Source: group commit, DeWitt et al. 1984; sleep and wake: Dekker, a full fence on each side.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.atomics cimport ATOMIC_REPLY_BYTES
from ferrisdb.kernel.cpu cimport (cpu_number, fence_full, futex_wait, leave_cpu, load32_acquire,
                                  load32_relaxed, load64_acquire, load64_relaxed, monotonic_ns,
                                  pause, put_u32, put_u64, store32_release, store64_relaxed,
                                  store64_release, wall_us)
from ferrisdb.kernel.judge cimport END_GROUP, ENTRY_COUNT, NEXT_RING, Entry, Judge, Placed
from ferrisdb.kernel.memtable cimport MemtableWriter
from ferrisdb.kernel.port cimport (CODE_BATCH_TOO_LARGE, CODE_BUSY, CODE_COMMIT_UNKNOWN,
                                   CODE_PROTOCOL, CODE_SNAPSHOT_TOO_OLD, PEEK_FAULT, PEEK_NONE,
                                   PEEK_PAD, PEEK_REQUEST, Outcome, Port, Request, complete,
                                   known_outcome, peek)
from ferrisdb.kernel.wal cimport WAL_RECORD_HEADER_BYTES, wal_record_bytes, wal_seal

from ferrisdb.errors import ProtocolError, UsageError

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void *p, size_t n, int64_t offset)

cdef extern from *:
    """
    #include <fcntl.h>
    #include <unistd.h>
    /* macOS: fsync reaches the drive's cache only; this is what fdatasync means elsewhere. */
    #ifdef F_FULLFSYNC
    #define fdb_datasync(fd) fcntl(fd, F_FULLFSYNC)
    #else
    #define fdb_datasync(fd) fdatasync(fd)
    #endif
    """
    int fdb_datasync(int fd) nogil

cpdef enum Reason:
    """Why `CommitLoop.run` came back."""
    TICK = 0            # the deadline, or a signal
    ATTENTION = 1       # the registry has news
    WRITE = 2           # the group is sealed: write it at wal_offset, then written()
    SYNC = 3            # the group is written by the caller: sync the WAL file, then synced()
    ROTATE = 4          # the memtable or the WAL file is full
    LARGE = 5           # a batch lies in a segment of its own: fetch it, then supply_large()
    FAILED = 6          # writing failed with error_number: refuse() the group, or poison()
    IDLE = 7            # only from step(): nothing to do
    CONTROL = 8         # a client asks for something: see control_ops, then answer_control()
    UNSYNCED = 9        # syncing failed with error_number: poison()

cdef enum:
    GROUP_BYTES = 1 << 20       # a group ends here, unless its first record alone is larger
    LINK_BEHIND_MAX = 256       # pending nodes that a busy loop leaves unlinked
    LINK_WAIT_NS = 4000         # how long fewer than 16 pending nodes wait for company
    TICK_SHIFT = 12             # 4,096 µs
    ACTIVE_REQUESTS = 3         # a tick of who keeps a processor busy,
    ACTIVE_US = 1024            # and the last one so late: who has left off no longer counts
    SYNC_WORTH_NS = 50_000      # syncs as long as this are shared with those who are on their way
    COMPANY_NS = 60_000         # how long they are waited for, and a third of the sync at most
    CROWDED_MAX = 16            # requests a tick from our own CPU before we leave it

    STAGE_IDLE = 0
    STAGE_SEALED = 1
    STAGE_WRITTEN = 2
    STAGE_POISONED = 3

cdef class CommitLoop(Judge):
    """The single sequencer of writes.

    Shape:   control and doorbell, their mapped writable segments.
    Units:   spin_ns, how long it looks at the rings before it sleeps.
    Owner:   the coordinator's main thread; not reentrant.
    """

    def __cinit__(self, control, doorbell, *, uint64_t generation, uint64_t visible_seq,
                  uint64_t last_time_us, int64_t spin_ns=20_000, uint32_t cpu_count=1):
        PyObject_GetBuffer(control, &self._control_buffer, PyBUF_WRITABLE)
        PyObject_GetBuffer(doorbell, &self._doorbell_buffer, PyBUF_WRITABLE)
        if (self._control_buffer.len < c.CONTROL_BYTES
                or self._doorbell_buffer.len < c.DOORBELL_BYTES):
            raise ProtocolError("the control page or the doorbell is too short")
        self.control = <uint8_t *>self._control_buffer.buf
        self.doorbell = <uint8_t *>self._doorbell_buffer.buf
        self.generation = generation
        self.visible_seq = visible_seq
        self.last_time_us = last_time_us
        self.spin_ns = spin_ns
        self.cpu_count = cpu_count
        self.fd = -1
        self.grow(GROUP_BYTES)
        self.attention_seen = load32_acquire(self.doorbell + c.DOORBELL_ATTENTION) - 1

    def __dealloc__(self):
        if self.control:
            PyBuffer_Release(&self._control_buffer)
            PyBuffer_Release(&self._doorbell_buffer)

    def remove_port(self, uint32_t index):
        """Stop serving the port; its segment may be unmapped afterwards."""
        Judge.remove_port(self, index)
        if self.large_no and self.large_port == index:
            self.large_no = 0
            self.large_ops = None

    # The log

    def set_log(self, MemtableWriter memtable not None, int fd, *, uint64_t salt, uint64_t offset,
                uint64_t synced_to, uint64_t capacity, history=()):
        """Append from now on to this WAL file and memtable; only between groups.

        Shape:   fd, open for writing, or -1: the caller writes and syncs (WRITE, SYNC); offset,
                 synced_to and capacity in bytes of the file; history, the frozen memtables, for
                 judgement.
        """
        if self.stage != STAGE_IDLE or self.entry_count:
            raise UsageError("a group is under way")
        self.memtable = memtable
        self.fd = fd
        self.salt = salt
        self.wal_offset = offset
        self.wal_synced = synced_to
        self.wal_capacity = capacity
        self.rotate_wanted = False
        self.set_history(history)

    def set_synced(self, uint64_t offset):
        """Note that the WAL file is durable below `offset` (a background sync ended)."""
        if offset > self.wal_synced:
            self.wal_synced = offset

    def closed(self, uint64_t nbytes):
        """Note that the caller wrote a closing record of `nbytes` at `wal_offset`."""
        if (self.stage != STAGE_IDLE or self.entry_count or self.wal_synced != self.wal_offset
                or nbytes > self.wal_capacity - self.wal_offset):
            raise UsageError("a log is closed between groups, durable to its end, and with room")
        self.wal_offset += nbytes

    @property
    def torn_bytes(self):
        """How much of the group whose write failed stands in the file, from `wal_offset` on."""
        return self._torn_bytes

    @property
    def error_number(self):
        """errno of the write or sync that failed."""
        return self._errno

    # The loop

    def run(self, int64_t deadline_ns):
        """Commit until the deadline (monotonic, ns) or the caller is needed; return a Reason."""
        cdef int reason
        with nogil:
            while True:
                if self.sync_ns > SYNC_WORTH_NS:
                    self._await_company()
                reason = self._step()
                if reason == IDLE:
                    if self._idle(deadline_ns):
                        reason = TICK
                        break
                elif reason != TICK:
                    break
                if monotonic_ns() >= deadline_ns:
                    reason = TICK
                    break
        return reason

    def step(self):
        """Do one group at most; return a Reason, IDLE when rings are empty and order complete."""
        return self._step()

    cdef void _await_company(self) noexcept nogil:
        """Let those whom the last group woke come back before the next one is synced without them.

        Else they part into two halves that wait for each other's syncs, and each sync serves half.
        A sleep, for they may need the processor.
        """
        cdef uint32_t i, waiting = 0, word = 0
        for i in range(self.port_end):
            if self.ports[i].live and load64_acquire(
                    self.ports[i].base + c.CLIENT_TAIL) != self.ports[i].pos:
                waiting += 1
        if waiting and waiting < load32_relaxed(self.control + c.CONTROL_ACTIVE_CLIENTS):
            futex_wait(&word, 0, min(<int64_t>COMPANY_NS, self.sync_ns // 3))
        if waiting:
            self.sync_ns = 0

    cdef int _step(self) except -1 nogil:
        cdef uint32_t attention = load32_acquire(self.doorbell + c.DOORBELL_ATTENTION)
        if self.stage != STAGE_IDLE:
            with gil:
                raise UsageError("the last group has not been written or synced")
        if attention != self.attention_seen:
            self.attention_seen = attention
            return ATTENTION
        self._gather()
        if self.entry_count == 0:
            if self.large_no and self.large_ops is None:
                return LARGE
            if self.control_ops is not None:
                return CONTROL
            if self.rotate_wanted:
                self._link(0xFFFFFFFF)
                return ROTATE
            if self._pending() == 0:
                return IDLE
            # One search alone costs four times what it does among sixteen, and the next request is
            # often a microsecond away.
            if self._pending() >= 16 or not self._await_more(LINK_WAIT_NS):
                self._link(16)
            return TICK
        if self.group_bytes:
            self._seal()
            self.stage = STAGE_SEALED
            if self.fd < 0:
                return WRITE
            if self._write() != 0:
                return FAILED
            return self._after_write()
        self._finish()
        return TICK

    cdef int _after_write(self) noexcept nogil:
        self.wal_offset += self.group_bytes
        self.stage = STAGE_WRITTEN
        if self.group_sync:
            self.written_ns = monotonic_ns()
            if self.fd < 0:
                return SYNC
            # Here and not in the caller, for whom all clients would wait.
            while fdb_datasync(self.fd) != 0:
                if errno != EINTR:
                    self._errno = errno
                    return UNSYNCED
            self._after_sync()
        self._finish()
        return TICK

    cdef void _after_sync(self) noexcept nogil:
        self.wal_synced = self.wal_offset
        self.sync_ns = monotonic_ns() - self.written_ns

    def group_view(self):
        """Return the sealed group's bytes, to be written at `wal_offset`."""
        return (<const char *>self.group)[:self.group_bytes]

    def written(self):
        """Say that the group stands in the file; return SYNC, or TICK if it is finished."""
        if self.stage != STAGE_SEALED:
            raise UsageError("no group is sealed")
        return self._after_write()

    def synced(self):
        """Say that the file is durable up to `wal_offset`; publishes and answers the group."""
        if self.stage != STAGE_WRITTEN:
            raise UsageError("no group is written")
        with nogil:
            self._after_sync()
            self._finish()

    def refuse(self, uint32_t status):
        """Answer the sealed group with this wire code, and forget it.

        The caller has seen to it that nothing of the group is in the file, nor will be.
        """
        if self.stage != STAGE_SEALED:
            raise UsageError("no group is sealed")
        with nogil:
            self._answer(status)
            self._wake()
        self.stage = STAGE_IDLE
        self.entry_count = 0

    def poison(self):
        """Give the waiting commits CommitUnknownError and commit nothing ever after (L5)."""
        with nogil:
            self._answer(CODE_COMMIT_UNKNOWN)
            self._wake()
        self.stage = STAGE_POISONED

    def supply_large(self, bytes ops):
        """Hand over the operations that LARGE asked for; None if they can't be had."""
        if ops is None or <uint64_t>len(ops) != self.large_bytes:
            self._fault(self.large_port)
            self.large_no = 0
            return
        self.large_ops = ops

    def answer_control(self, uint32_t status, uint64_t seq):
        """Answer the request that CONTROL came back for."""
        if self.control_ops is None:
            raise UsageError("no control request waits for its answer")
        self.control_ops = None
        if self.ports[self.control_port].base != NULL:
            complete(&self.ports[self.control_port], self.control_no, status, seq, NULL)
            self._wake()

    def serve_stalled(self, uint32_t status, int64_t now_ns):
        """While no group can be taken: answer requests past their deadline, or all of them.

        Shape:   status 0: only those past their deadline, with BusyError; else every waiting
                 request, with this wire code.
        Returns: how many were answered.
        """
        cdef uint32_t i, answered = 0
        cdef int took
        with nogil:
            for i in range(self.port_end):
                while self.ports[i].live:
                    took = self._expire(i, status, now_ns)
                    if took == 0:
                        break
                    answered += took == 1
            if answered:
                self._wake()
        return answered

    cdef uint32_t _pending(self) noexcept nogil:
        return self.memtable.pending_end - self.memtable.pending_first

    cdef bint _await_more(self, int64_t duration_ns) noexcept nogil:
        cdef int64_t end = monotonic_ns() + duration_ns
        cdef uint32_t _i
        while True:
            for _i in range(16):
                if self._more():
                    return True
                pause()
            if monotonic_ns() >= end:
                return False

    cdef int _gather(self) except -1 nogil:
        """Copy, check and judge requests of all rings, one of each in turn, into one group."""
        cdef uint32_t i, k, first = self.port_first
        cdef bint took = True
        cdef int result
        self.begin_group()
        self.group_sync = False
        if self.rotate_wanted or self.control_ops is not None:
            return 0
        self.group_time_us = 0
        while took:
            took = False
            for k in range(self.port_end):
                i = first + k
                if i >= self.port_end:
                    i -= self.port_end
                if not self.ports[i].live:
                    continue
                if load64_acquire(self.ports[i].base + c.CLIENT_TAIL) == self.ports[i].pos:
                    continue
                if self.group_time_us == 0:
                    self.group_time_us = max(self.last_time_us, wall_us())
                result = self._take(i)
                if result == 2:
                    return 0
                if result == 1:
                    took = True
                    self.port_first = i + 1 if i + 1 < self.port_end else 0
        return 0

    cdef int _take(self, uint32_t index) except -1 nogil:
        """Take the next request of one ring. 1: taken; 0: there is none; 2: end the group first."""
        cdef Port *port = &self.ports[index]
        cdef Request request
        cdef uint32_t status = 0
        cdef int found
        if self.entry_count == ENTRY_COUNT:
            return 2
        found = peek(port, &request)
        if found == PEEK_NONE:
            return 0
        if found == PEEK_PAD:
            port.pos += request.nbytes
            return 1
        if found == PEEK_FAULT:
            self._fault(index)
            return 0
        if request.kind == c.REQUEST_CONTROL:
            return self._take_control(index, &request)
        if known_outcome(port, request.request_no) == NULL:
            status = self._admit(index, &request)
            if status == END_GROUP or status == NEXT_RING:
                return 2 if status == END_GROUP else 0
            self.placed.detail = 0
            if status == 0:
                status = self.place(&request)
                if status == 0 and request.kind == c.REQUEST_ATOMIC:
                    status = self._admit_results()
                    if status:
                        self.forget_placed()
                if status == END_GROUP:
                    return 2
            if status == CODE_PROTOCOL:
                self._fault(index)
                return 0
        self._enter(index, &request, status)
        if status == 0 and request.kind == c.REQUEST_ATOMIC:
            self.overlay_entries = self.entry_count     # its results are in the overlay already
        if status == 0 and self.entries[self.entry_count - 1].catalogue:
            return 2                                    # J4
        if self.large_no and self.large_port == index:
            self.large_no = 0
            with gil:
                self.large_ops = None
            return 2
        return 1

    cdef int _take_control(self, uint32_t index, const Request *request) except -1 with gil:
        """Take a request that is no commit; it ends the group, so that rings stay in order (L4)."""
        cdef Port *port = &self.ports[index]
        if self.entry_count:
            return 2
        self.control_ops = (<const char *>request.ops)[:request.ops_bytes]
        self.control_port = index
        self.control_no = request.request_no
        port.pos += request.nbytes
        port.next_no = request.request_no + 1
        port.unanswered_no = request.unanswered_no
        return 2

    cdef uint32_t _admit(self, uint32_t index, const Request *request) noexcept nogil:
        """Tell whether the group can take the request: 0, END_GROUP, or a wire code to answer."""
        cdef uint64_t record_bytes = wal_record_bytes(request.ops_bytes, 0)
        if request.generation and request.generation != self.generation:
            return CODE_SNAPSHOT_TOO_OLD
        if (request.ops_bytes > load64_relaxed(self.control + c.CONTROL_BATCH_BYTES_MAX)
                or not self.memtable.could_hold(request.ops_bytes, request.count)):
            return CODE_BATCH_TOO_LARGE
        if request.large_no:
            # A large batch goes in a group of its own, once its operations have been fetched.
            if self.entry_count:
                return END_GROUP
            if self.large_no == 0:
                self.large_no = request.large_no
                self.large_port = index
                self.large_bytes = <uint64_t>request.ops_bytes + request.checks_bytes
            if self.large_port != index:
                # Another client's is fetched first. To end the group here would keep its turn
                # from ever coming where this ring is looked at before it.
                return NEXT_RING
            if self.large_ops is None:
                return END_GROUP
        if self.group_bytes and self.group_bytes + record_bytes > GROUP_BYTES:
            return END_GROUP
        if not self._fits(request.ops_bytes, request.count, 0):
            self.rotate_wanted = True
            return END_GROUP
        return 0

    cdef bint _fits(self, uint64_t ops_bytes, uint32_t count, uint64_t reply_bytes) noexcept nogil:
        """Tell whether log and memtable have room for one more record."""
        return (self.wal_offset + self.group_bytes + wal_record_bytes(ops_bytes, reply_bytes)
                <= self.wal_capacity
                and self.memtable.has_room(self.group_ops_bytes + ops_bytes,
                                           self.group_count + count))

    cdef uint32_t _admit_results(self) noexcept nogil:
        """Tell whether the group can take what atomic operations came to; as `_admit`."""
        cdef uint64_t ops_bytes = self.placed.ops_bytes
        if (ops_bytes > load64_relaxed(self.control + c.CONTROL_BATCH_BYTES_MAX)
                or not self.memtable.could_hold(ops_bytes, self.placed.count)):
            return CODE_BATCH_TOO_LARGE
        if self.entry_count and self.group_bytes + ops_bytes > GROUP_BYTES:
            return END_GROUP
        if not self._fits(ops_bytes, self.placed.count, ATOMIC_REPLY_BYTES):
            self.rotate_wanted = True
            return END_GROUP
        return 0

    cdef void _enter(self, uint32_t index, const Request *request, uint32_t status) noexcept nogil:
        """Put the request into the group: its record's header, or just the answer that it gets."""
        cdef Port *port = &self.ports[index]
        cdef Entry *entry = &self.entries[self.entry_count]
        entry.port = index
        entry.status = status
        entry.request_no = request.request_no
        entry.catalogue = False
        entry.first_seq = self.placed.detail
        entry.known = known_outcome(port, request.request_no) != NULL
        if status == 0 and not entry.known:
            self._enter_record(port, entry, request)
        if request.cpu and request.cpu == cpu_number():
            self.crowded += 1
        self.entry_count += 1
        port.pos += request.nbytes
        port.next_no = request.request_no + 1
        port.unanswered_no = request.unanswered_no
        port.sent = port.sent + 1 if port.tick == self.tick else 1
        port.tick, port.last_us = self.tick, self.group_time_us

    cdef void _enter_record(self, const Port *port, Entry *entry,
                            const Request *request) noexcept nogil:
        """Complete the record around the operations that were placed."""
        cdef Placed *placed = &self.placed
        cdef uint64_t ops_end = WAL_RECORD_HEADER_BYTES + placed.ops_bytes
        cdef uint8_t *record = self.group + self.group_bytes
        entry.first_seq = self.visible_seq + self.group_count + 1
        entry.count = placed.count
        entry.record = self.group_bytes
        entry.ops_bytes = <uint32_t>placed.ops_bytes
        entry.reply_bytes = placed.reply_bytes
        entry.catalogue = placed.catalogue
        if placed.reply_bytes:
            memcpy(entry.reply, &placed.reply, placed.reply_bytes)
            if placed.count == 0:
                # Nothing changes: a client that loses the answer asks again, and is judged again.
                entry.record_bytes = 0
                return
        entry.record_bytes = wal_record_bytes(placed.ops_bytes, placed.reply_bytes)
        memset(record, 0, WAL_RECORD_HEADER_BYTES)
        put_u32(record + 4, entry.ops_bytes)
        put_u64(record + 8, entry.first_seq)
        put_u32(record + 16, entry.count)
        put_u32(record + 20, entry.reply_bytes << 16)
        put_u64(record + 32, self.group_time_us)
        memcpy(record + 40, port.client_id, 16)
        put_u64(record + 56, request.request_no)
        put_u64(record + 64, request.unanswered_no)
        memcpy(record + ops_end, entry.reply, entry.reply_bytes)
        memset(record + ops_end + entry.reply_bytes, 0,
               entry.record_bytes - ops_end - entry.reply_bytes)
        self.group_bytes += entry.record_bytes
        self.group_ops_bytes += entry.ops_bytes
        self.group_count += entry.count
        if request.durability == c.DURABILITY_SYNC:
            self.group_sync = True

    cdef void _seal(self) noexcept nogil:
        cdef uint32_t i
        cdef Entry *entry
        for i in range(self.entry_count):
            entry = &self.entries[i]
            if entry.status == 0 and not entry.known and entry.record_bytes:
                put_u64(self.group + entry.record + 24, self.wal_synced)
                wal_seal(self.group + entry.record, entry.record_bytes,
                         self.wal_offset + entry.record, self.salt)

    cdef int _write(self) noexcept nogil:
        cdef uint64_t done = 0
        cdef ssize_t n
        while done < self.group_bytes:
            n = pwrite(self.fd, self.group + done, self.group_bytes - done,
                       <int64_t>(self.wal_offset + done))
            if n < 0:
                if errno == EINTR:
                    continue
                self._errno = errno
                self._torn_bytes = done
                return -1
            done += n
        return 0

    cdef void _finish(self) noexcept nogil:
        """Add the group to the memtable, show it, answer it, wake the sleepers, in this order."""
        cdef uint32_t i
        cdef Entry *entry
        cdef Outcome *outcome
        if self.group_count:
            self.memtable.reserve_pending(self.group_count)
        for i in range(self.entry_count):
            entry = &self.entries[i]
            if entry.status == 0 and not entry.known:
                if entry.ops_bytes:
                    self.memtable.apply_ops(self.group + entry.record + WAL_RECORD_HEADER_BYTES,
                                            entry.ops_bytes, entry.first_seq)
                outcome = &self.ports[entry.port].outcomes[entry.request_no % c.COMPLETION_COUNT]
                outcome.request_no = entry.request_no
                outcome.first_seq = entry.first_seq
                outcome.count = entry.count
                outcome.reply_bytes = entry.reply_bytes
                memcpy(outcome.reply, entry.reply, entry.reply_bytes)
                self.commits += 1
        self.visible_seq += self.group_count
        if self.group_time_us > self.last_time_us:
            self.last_time_us = self.group_time_us
        store64_relaxed(self.control + c.CONTROL_LAST_TIME_US, self.last_time_us)
        store64_release(self.control + c.CONTROL_VISIBLE_SEQ, self.visible_seq)     # L2
        if self.note_keyspaces():
            # Behind the sequence: who sees this word moved, sees the catalogue that moved it.
            store64_release(self.control + c.CONTROL_KEYSPACES,
                            load64_relaxed(self.control + c.CONTROL_KEYSPACES) + 1)
        self._answer(0)
        self._wake()
        self.groups += 1
        self.stage = STAGE_IDLE
        self.entry_count = 0
        if self.group_room > 4 * GROUP_BYTES:
            free(self.group)
            self.group = NULL
            self.group_room = self.group_bytes = 0
            self.grow(GROUP_BYTES)
        if self._pending() == 0:
            self._link(0)
        elif self._pending() > LINK_BEHIND_MAX:
            self._link(self._pending() - LINK_BEHIND_MAX // 2)
        if self.group_time_us >> TICK_SHIFT != self.tick:
            self._count_active()
            self._make_room()

    cdef void _answer(self, uint32_t status) noexcept nogil:
        """Answer every entry (L3); with a status, those that would have succeeded get it."""
        cdef uint32_t i
        cdef Entry *entry
        cdef Port *port
        cdef const Outcome *outcome
        for i in range(self.entry_count):
            entry = &self.entries[i]
            port = &self.ports[entry.port]
            if port.base == NULL:
                continue
            outcome = NULL
            if entry.status == 0 and (status == 0 or entry.known):
                outcome = &port.outcomes[entry.request_no % c.COMPLETION_COUNT]
            complete(port, entry.request_no, 0 if outcome != NULL else entry.status or status,
                     entry.first_seq, outcome)

    cdef void _link(self, uint32_t count_max) noexcept nogil:
        """Put pending nodes in order and publish how far the order is complete."""
        cdef uint64_t ordered = self.visible_seq
        self.memtable.link_some(count_max)
        if self._pending():
            ordered = self.memtable.pending_seq[self.memtable.pending_first] - 1
        if ordered != load64_relaxed(self.control + c.CONTROL_ORDERED_SEQ):
            store64_release(self.control + c.CONTROL_ORDERED_SEQ, ordered)

    def link_all(self):
        """Complete the order of the active memtable and publish it."""
        with nogil:
            self._link(0xFFFFFFFF)

    cdef void _make_room(self) noexcept nogil:
        """Leave a CPU that we share with our clients while another may be free.

        Two processes that wake each other are often kept on one CPU; spinning is in vain there,
        and every request then costs two switches: 15 µs for a put where two CPUs take 5.
        """
        if self.crowded > CROWDED_MAX and (
                load32_relaxed(self.control + c.CONTROL_ACTIVE_CLIENTS) < self.cpu_count):
            leave_cpu()
        self.crowded = 0

    cdef void _count_active(self) noexcept nogil:
        # Clients judge by this whether a core is free to spin on. A reader worker counts for two:
        # those who are at its sockets need one, too.
        cdef uint32_t i, active = 0
        self.serves_readers = False
        for i in range(self.port_end):
            if (self.ports[i].live and self.ports[i].tick == self.tick
                    and self.ports[i].sent >= ACTIVE_REQUESTS
                    and self.group_time_us - self.ports[i].last_us < ACTIVE_US):
                active += 1
                if self.ports[i].wake_fd >= 0:
                    self.serves_readers = True
                    active += 1
        self.tick = self.group_time_us >> TICK_SHIFT
        if active != load32_relaxed(self.control + c.CONTROL_ACTIVE_CLIENTS):
            store32_release(self.control + c.CONTROL_ACTIVE_CLIENTS, active)

    cdef int _idle(self, int64_t deadline_ns) noexcept nogil:
        """Look at the rings for a while, then sleep on the doorbell. 1: return to the caller."""
        cdef int64_t now, spin_ns = self.spin_ns
        cdef uint32_t word
        cdef int result = 0
        if load32_relaxed(self.control + c.CONTROL_ACTIVE_CLIENTS) >= self.cpu_count:
            # A reader worker gathers for as long as a commit takes: it is not worth waiting for.
            spin_ns = 0 if self.serves_readers else spin_ns // 10
        if self._await_more(spin_ns):
            return 0
        now = monotonic_ns()
        if now >= deadline_ns:
            return 1
        # The order was published by _step before it said IDLE; a scan never waits for a sleeper.
        word = load32_acquire(self.doorbell + c.DOORBELL_WORD)
        store32_release(self.control + c.CONTROL_SLEEPING, 1)
        fence_full()
        if (not self._more()
                and load32_acquire(self.doorbell + c.DOORBELL_ATTENTION) == self.attention_seen):
            result = futex_wait(self.doorbell + c.DOORBELL_WORD, word, deadline_ns - now)
        store32_release(self.control + c.CONTROL_SLEEPING, 0)
        return 1 if result == EINTR else 0

    cdef int _expire(self, uint32_t index, uint32_t status, int64_t now_ns) noexcept nogil:
        """Answer the next request uncommitted if its time is up. 1: answered; 2: a pad; 0: none."""
        cdef Port *port = &self.ports[index]
        cdef Request request
        cdef int found = peek(port, &request)
        if found == PEEK_PAD:
            port.pos += request.nbytes
            return 2
        if found == PEEK_FAULT:
            self._fault(index)
            return 0
        if found != PEEK_REQUEST or (status == 0 and request.deadline_ns > <uint64_t>now_ns):
            return 0
        # Committed by an earlier generation: answered when groups are taken again.
        if known_outcome(port, request.request_no) != NULL:
            return 0
        port.pos += request.nbytes
        port.next_no = request.request_no + 1
        if self.large_no and self.large_port == index:
            self.large_no = 0
            with gil:
                self.large_ops = None
        complete(port, request.request_no, status if status else CODE_BUSY, self.visible_seq, NULL)
        return 1
