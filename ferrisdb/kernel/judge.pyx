# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Take requests into a commit group: copy, check, judge what was read, evaluate atomic operations.

Each request is judged against the memtables plus what the requests before it in its group write
(the overlay). No disk is read here. Where the memtables no longer reach back to the sequence at
which a client read, it is told so (HISTORY), and reads anew.

One module, because conflicts and evaluation ask one overlay, which follows the group's buffer.

Invariants
    J1  A request is copied out of its client's memory before anything of it is checked; only the
        copy is used afterwards.
    J2  What a request reads (its checks, the values that its atomic operations work on) is what
        all requests before it, in commit order, have left, and nothing else: an overlay that
        can't be exact ends the group before it is asked.
    J3  Nothing of a request is in the group unless all of it is.
    J4  A group ends behind a change of which key spaces there are: who writes into a dropped one
        behind it is refused.

Source: optimistic validation, Kung and Robinson 1981, with ranges as in FoundationDB's resolvers;
the sequencer that evaluates operations is Calvin's and FoundationDB's.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.atomics cimport (ATOMIC_HINT, ATOMIC_HINT_ABSENT, ATOMIC_REPLY_BYTES,
                                      REQUEST_ATOMIC_OP, AtomicOp, Held, atomic_apply,
                                      atomic_parse, atomic_room)
from ferrisdb.kernel.cpu cimport compare, hash_bytes, load_u32, put_u32, put_u64
from ferrisdb.kernel.memtable cimport Memtable
from ferrisdb.kernel.overlay cimport (OVERLAY_NONE, overlay_add, overlay_clear, overlay_find)
from ferrisdb.kernel.port cimport (CODE_BATCH_TOO_LARGE, CODE_CONFLICT, CODE_HISTORY,
                                   CODE_KEYSPACE_DROPPED, CODE_PROTOCOL, Request)
from ferrisdb.kernel.source cimport (KIND_DELETE, KIND_PUT, KIND_PUT_EXPIRING, KIND_RANGE_DELETE,
                                     Hit)
from ferrisdb.kernel.wal cimport (REQUEST_PUT_TTL, STORED_KEY_BYTES_MAX, WAL_RECORD_HEADER_BYTES,
                                  Op, op_parse, wal_record_bytes)

cdef enum:
    KEYSPACE_PREFIX = 1         # first byte of a named key space's prefix, then its id, u32 BE
    KEYSPACE_PREFIX_BYTES = 5
    SYSTEM_PREFIX = 2           # first byte of the catalogue's keys; b"\x02i" + id: it lives
    CATALOGUE_KEY_BYTES = 6
    KNOWN = 1                   # what _held_in says of a key: it has a version or a range of it
    UNKNOWN = 0

cdef uint64_t NOT_A_CHECK = 0xFFFFFFFFFFFFFFFF


cdef inline uint64_t keyspace_id(const uint8_t *p) noexcept nogil:
    return <uint64_t>p[0] << 24 | <uint64_t>p[1] << 16 | <uint64_t>p[2] << 8 | p[3]


cdef inline bint is_catalogue(const Op *op) noexcept nogil:
    # A put or delete of one id, or a range delete that may hold some.
    if op.kind == KIND_RANGE_DELETE:
        return op.key_bytes == 0 or op.key[0] <= SYSTEM_PREFIX and (
            op.value_bytes == 0 or op.value[0] >= SYSTEM_PREFIX and op.value_bytes > 1
            or op.value[0] > SYSTEM_PREFIX)
    return (op.key_bytes == CATALOGUE_KEY_BYTES and op.key[0] == SYSTEM_PREFIX
            and op.key[1] == c'i')


cdef class Judge(PortTable):
    """The judging half of the commit loop.

    Owner:   the coordinator's main thread.
    """

    def __cinit__(self, *args, **kwargs):
        self.history = []
        self.entries = <Entry *>calloc(ENTRY_COUNT, sizeof(Entry))
        if not self.entries:
            raise MemoryError()

    def __dealloc__(self):
        free(self.entries)
        free(self.group)
        free(self.copy)
        free(self.keyspaces)

    def set_history(self, history):
        """Name the frozen memtables that judgement may look into, any order."""
        # By number: all that a start replayed into say that their history reaches back to 1.
        self.history = sorted(history, key=lambda m: -m.number)
        self.frozen_count = <uint32_t>len(self.history)
        self.history_first_seq = min([m.first_seq for m in [self.memtable, *self.history]])

    def set_keyspaces(self, ids):
        """Say which key spaces live; only before the first group."""
        for keyspace in ids:
            self._set_keyspace(keyspace, True)

    cdef int _set_keyspace(self, uint64_t keyspace, bint lives) except -1 nogil:
        cdef uint64_t room = self.keyspace_room
        cdef void *grown
        if keyspace >= 8 * room:
            if not lives:
                return 0
            room = keyspace // 8 + 1024
            grown = realloc(self.keyspaces, room)
            if grown == NULL:
                with gil:
                    raise MemoryError()
            self.keyspaces = <uint8_t *>grown
            memset(self.keyspaces + self.keyspace_room, 0, room - self.keyspace_room)
            self.keyspace_room = room
        if lives:
            self.keyspaces[keyspace // 8] |= 1 << (keyspace & 7)
        else:
            self.keyspaces[keyspace // 8] &= ~(1 << (keyspace & 7))
        return 0

    cdef bint note_keyspaces(self) except -1 nogil:
        """Take note of the key spaces that the finished group made or dropped; True if any."""
        cdef Entry *entry
        cdef uint32_t i, used
        cdef uint64_t at
        cdef Op op
        cdef const uint8_t *ops
        cdef bint found = False
        for i in range(self.entry_count):
            entry = &self.entries[i]
            if not entry.catalogue or entry.status or entry.known:
                continue
            found = True
            ops = self.group + entry.record + WAL_RECORD_HEADER_BYTES
            at = 0
            while at < entry.ops_bytes:
                used = op_parse(ops + at, entry.ops_bytes - at, &op)
                if used == 0:
                    break
                at += used
                if op.kind == KIND_RANGE_DELETE:
                    if is_catalogue(&op):
                        memset(self.keyspaces, 0, self.keyspace_room)
                elif is_catalogue(&op):
                    self._set_keyspace(keyspace_id(op.key + 2), op.kind != KIND_DELETE)
        return found

    cdef int grow(self, uint64_t more) except -1 nogil:
        """Make room for `more` bytes behind the group; what points into it is void afterwards."""
        cdef uint64_t want = self.group_bytes + more
        cdef void *grown
        if want <= self.group_room:
            return 0
        want = (want + (1 << 16)) & ~<uint64_t>0xFFF
        grown = realloc(self.group, want)
        if grown == NULL:
            with gil:
                raise MemoryError()
        self.group = <uint8_t *>grown
        self.group_room = want
        return 0

    cdef void begin_group(self) noexcept nogil:
        self.group_bytes = self.group_ops_bytes = self.group_count = 0
        self.entry_count = 0
        self.overlay_entries = 0
        overlay_clear(&self.overlay)

    cdef uint32_t place(self, const Request *request) except? 0xFFFFFFFF nogil:
        """Put the request's results where its record goes, if it may be committed (J1).

        Returns: 0, and `placed` says what; END_GROUP; or the wire code that answers it.
        """
        cdef uint64_t record_bytes = wal_record_bytes(request.ops_bytes, 0)
        cdef uint8_t *record
        cdef uint32_t status
        self.placed.reply_bytes = 0
        self.placed.detail = 0
        self.placed.catalogue = False
        if request.kind == c.REQUEST_ATOMIC:
            return self._evaluate(request)
        self.grow(record_bytes)
        self._copy_in(request, self.group_bytes + WAL_RECORD_HEADER_BYTES)
        record = self.group + self.group_bytes
        self.placed.ops_bytes, self.placed.count = request.ops_bytes, request.count
        status = self._check_ops(record + WAL_RECORD_HEADER_BYTES, request)
        if status:
            return status
        if request.expiry_us and request.expiry_us <= self.group_time_us:
            self.placed.detail = NOT_A_CHECK
            return CODE_CONFLICT
        if request.checks_bytes:
            return self._judge(request.snapshot_seq, self.copy, request.checks_bytes)
        return 0

    cdef int _copy_in(self, const Request *request, uint64_t ops_at) except -1 nogil:
        """Copy the operations to an offset of the group, and the checks to `copy`.

        With offset 0 both go to `copy`, the checks first.
        """
        cdef const uint8_t *ops = request.ops
        cdef const uint8_t *checks = request.checks
        cdef uint64_t want = request.checks_bytes + (request.ops_bytes if ops_at == 0 else 0)
        cdef void *grown
        if want > self.copy_room:
            grown = realloc(self.copy, 2 * want + 4096)
            if grown == NULL:
                with gil:
                    raise MemoryError()
            self.copy, self.copy_room = <uint8_t *>grown, 2 * want + 4096
        if request.large_no:
            with gil:
                ops = <const uint8_t *>PyBytes_AS_STRING(self.large_ops)
            checks = ops + request.ops_bytes
        if request.checks_bytes:
            memcpy(self.copy, checks, request.checks_bytes)
        if request.ops_bytes:
            memcpy(self.group + ops_at if ops_at else self.copy + request.checks_bytes, ops,
                   request.ops_bytes)
        return 0

    cdef uint32_t _check_key(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil:
        cdef uint64_t keyspace
        if key_bytes < KEYSPACE_PREFIX_BYTES or key[0] != KEYSPACE_PREFIX:
            return 0
        keyspace = keyspace_id(key + 1)
        if keyspace >= 8 * self.keyspace_room or not (
                self.keyspaces[keyspace // 8] >> (keyspace & 7) & 1):
            return CODE_KEYSPACE_DROPPED
        return 0

    cdef uint32_t _check_ops(self, uint8_t *ops, const Request *request) noexcept nogil:
        """Tell whether copied operations are well-formed; relative expiries become absolute."""
        cdef Op op
        cdef uint64_t at = 0, ops_bytes = request.ops_bytes
        cdef uint32_t used, seen = 0, status = 0
        while at < ops_bytes:
            used = op_parse(ops + at, ops_bytes - at, &op)
            if used == 0:
                return CODE_PROTOCOL
            if op.kind == KIND_RANGE_DELETE and op.value_bytes and (
                    op.value_bytes > STORED_KEY_BYTES_MAX
                    or compare(op.key, op.key_bytes, op.value, op.value_bytes) >= 0):
                return CODE_PROTOCOL
            if op.kind == REQUEST_PUT_TTL:
                # Sums with the time stay below 2**63.
                if op.expires_us >> 60:
                    return CODE_PROTOCOL
                put_u32(ops + at, op.key_bytes | <uint32_t>KIND_PUT_EXPIRING << 24)
                put_u64(ops + at + 8, self.group_time_us + op.expires_us)
            if status == 0:
                status = self._check_key(op.key, op.key_bytes)
            self.placed.catalogue = self.placed.catalogue or is_catalogue(&op)
            at += used
            seen += 1
        return status if seen == request.count else CODE_PROTOCOL

    # What was read

    cdef uint32_t _judge(self, uint64_t snapshot_seq, const uint8_t *checks,
                         uint64_t checks_bytes) noexcept nogil:
        """Tell whether something that the request has read was written after its snapshot."""
        cdef uint64_t at = 0
        cdef uint32_t word, n, m, used
        cdef bint changed
        if snapshot_seq + 1 < self.history_first_seq:
            return CODE_HISTORY
        if not self._overlay_fill():
            return END_GROUP
        while at < checks_bytes:
            if checks_bytes - at < 4:
                return CODE_PROTOCOL
            word = load_u32(checks + at)
            n = word & 0xFFFFFF
            used = 4
            m = 0
            if word >> 24 == c.CHECK_RANGE:
                if checks_bytes - at < 8:
                    return CODE_PROTOCOL
                m = load_u32(checks + at + 4)
                used = 8
            elif word >> 24 != c.CHECK_KEY:
                return CODE_PROTOCOL
            if (n > STORED_KEY_BYTES_MAX or m > STORED_KEY_BYTES_MAX
                    or <uint64_t>used + n + m > checks_bytes - at):
                return CODE_PROTOCOL
            if used == 4:
                changed = self._key_changed(checks + at + 4, n, snapshot_seq)
            else:
                changed = self._range_changed(checks + at + 8, n, checks + at + 8 + n, m,
                                              snapshot_seq)
            if changed:
                return CODE_CONFLICT
            at += used + n + m
            self.placed.detail += 1
        return 0

    cdef bint _key_changed(self, const uint8_t *key, uint32_t key_bytes,
                           uint64_t above) noexcept nogil:
        cdef uint64_t hash = hash_bytes(key, key_bytes)
        if overlay_find(&self.overlay, self.group, hash, key, key_bytes) != OVERLAY_NONE:
            return True
        if self.memtable.newest_seq(key, key_bytes, hash) > above:
            return True
        if self.memtable.range_count() and self.memtable.covering_seq(
                key, key_bytes, 0xFFFFFFFFFFFFFFFF) > above:
            return True
        if self.frozen_count == 0 or above >= self.memtable.first_seq:
            return False
        return self._newest_frozen(key, key_bytes, hash) > above

    cdef uint64_t _newest_frozen(self, const uint8_t *key, uint32_t key_bytes,
                                 uint64_t hash) noexcept with gil:
        cdef uint64_t newest = 0
        cdef Memtable frozen
        for frozen in self.history:
            newest = max(newest, frozen.newest_seq(key, key_bytes, hash))
            if frozen.range_count():
                newest = max(newest, frozen.covering_seq(key, key_bytes, 0xFFFFFFFFFFFFFFFF))
        return newest

    cdef bint _range_changed(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                             uint32_t end_bytes, uint64_t above) noexcept nogil:
        if self._group_touches(start, start_bytes, end, end_bytes):
            return True
        # Groups before this one are in the memtable, but perhaps not in its order yet.
        self.memtable.link_some(0xFFFFFFFF)
        if self.memtable.changed_since(start, start_bytes, end, end_bytes, above):
            return True
        if self.frozen_count == 0 or above >= self.memtable.first_seq:
            return False
        return self._frozen_changed(start, start_bytes, end, end_bytes, above)

    cdef bint _frozen_changed(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                              uint32_t end_bytes, uint64_t above) noexcept with gil:
        cdef Memtable frozen
        for frozen in self.history:
            if frozen.changed_since(start, start_bytes, end, end_bytes, above):
                return True
        return False

    cdef bint _group_touches(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                             uint32_t end_bytes) noexcept nogil:
        """Tell whether an entry of the group writes into [start, end); end_bytes 0: no bound."""
        cdef uint32_t i, used
        cdef uint64_t at
        cdef Entry *entry
        cdef Op op
        cdef const uint8_t *ops
        for i in range(self.entry_count):
            entry = &self.entries[i]
            if entry.status or entry.known:
                continue
            ops = self.group + entry.record + WAL_RECORD_HEADER_BYTES
            at = 0
            while at < entry.ops_bytes:
                used = op_parse(ops + at, entry.ops_bytes - at, &op)
                if used == 0:
                    break
                at += used
                if end_bytes and compare(op.key, op.key_bytes, end, end_bytes) >= 0:
                    continue
                if op.kind == KIND_RANGE_DELETE:
                    if op.value_bytes == 0 or compare(
                            op.value, op.value_bytes, start, start_bytes) > 0:
                        return True
                elif compare(op.key, op.key_bytes, start, start_bytes) >= 0:
                    return True
        return False

    cdef bint _overlay_fill(self) noexcept nogil:
        """Add what the group's entries since the last time write; False: it can't be exact (J2)."""
        cdef Entry *entry
        cdef Op op
        cdef uint64_t at
        cdef uint32_t used, place
        cdef const uint8_t *ops
        while self.overlay_entries < self.entry_count:
            entry = &self.entries[self.overlay_entries]
            self.overlay_entries += 1
            if entry.status or entry.known or entry.record_bytes == 0:
                continue
            ops = self.group + entry.record + WAL_RECORD_HEADER_BYTES
            at = 0
            while at < entry.ops_bytes and not self.overlay.everything:
                used = op_parse(ops + at, entry.ops_bytes - at, &op)
                if used == 0:
                    break
                place = <uint32_t>(entry.record + WAL_RECORD_HEADER_BYTES + at)
                overlay_add(&self.overlay, self.group, hash_bytes(op.key, op.key_bytes), &op,
                            place)
                at += used
        return not self.overlay.everything

    # Atomic operations

    cdef uint32_t _evaluate(self, const Request *request) except? 0xFFFFFFFF nogil:
        """Judge a request with atomic operations and put its results into the group (J3)."""
        cdef const uint8_t *ops
        cdef uint64_t at = 0
        cdef uint32_t used, seen = 0, status = 0
        cdef int64_t written
        cdef AtomicOp atomic
        cdef Op op
        cdef uint8_t *out
        self.placed.ops_bytes = 0
        self.placed.count = 0
        self.placed.reply.applied = self.placed.reply.unfit = 0
        self.placed.reply.result = 0
        self.placed.reply_bytes = ATOMIC_REPLY_BYTES
        self._copy_in(request, 0)
        if request.expiry_us and request.expiry_us <= self.group_time_us:
            self.placed.detail = NOT_A_CHECK
            return CODE_CONFLICT
        if request.checks_bytes:
            status = self._judge(request.snapshot_seq, self.copy, request.checks_bytes)
            if status:
                return status
        elif not self._overlay_fill():
            return END_GROUP
        ops = self.copy + request.checks_bytes
        while at < request.ops_bytes and status == 0:
            seen += 1
            if request.ops_bytes - at >= 4 and ops[at + 3] == REQUEST_ATOMIC_OP:
                used = atomic_parse(ops + at, request.ops_bytes - at, &atomic)
                if used == 0:
                    status = CODE_PROTOCOL
                    break
                status = self._check_key(atomic.key, atomic.key_bytes)
                if status == 0:
                    status = self._evaluate_one(&atomic, request, &written)
                at += used
            else:
                used = op_parse(ops + at, request.ops_bytes - at, &op)
                if used == 0 or op.kind == KIND_RANGE_DELETE and op.value_bytes and (
                        op.value_bytes > STORED_KEY_BYTES_MAX
                        or compare(op.key, op.key_bytes, op.value, op.value_bytes) >= 0):
                    status = CODE_PROTOCOL
                    break
                if op.kind == REQUEST_PUT_TTL and op.expires_us >> 60:
                    status = CODE_PROTOCOL
                    break
                status = self._check_key(op.key, op.key_bytes)
                self.grow(WAL_RECORD_HEADER_BYTES + self.placed.ops_bytes + used + 64)
                out = (self.group + self.group_bytes + WAL_RECORD_HEADER_BYTES
                       + self.placed.ops_bytes)
                memcpy(out, ops + at, used)
                if op.kind == REQUEST_PUT_TTL:
                    put_u32(out, op.key_bytes | <uint32_t>KIND_PUT_EXPIRING << 24)
                    put_u64(out + 8, self.group_time_us + op.expires_us)
                written = used
                at += used
            if status == 0 and written:
                self._note_written(written)
                if self.overlay.everything and at < request.ops_bytes:
                    # Other entries' share of it is gone in the next group.
                    status = END_GROUP if self.entry_count else CODE_BATCH_TOO_LARGE
        if status == 0 and seen != request.count:
            status = CODE_PROTOCOL
        if status:
            self.forget_placed()
        return status

    cdef void forget_placed(self) noexcept nogil:
        """Take results that come to nothing out of the overlay: it is made anew when needed."""
        overlay_clear(&self.overlay)
        self.overlay_entries = 0

    cdef void _note_written(self, int64_t written) noexcept nogil:
        """Count the result that was just put behind the others, and let later ones see it."""
        cdef Op op
        cdef uint64_t place = (self.group_bytes + WAL_RECORD_HEADER_BYTES
                               + self.placed.ops_bytes)
        if op_parse(self.group + place, <uint64_t>written, &op) == 0:
            return                                      # never: it was just written
        overlay_add(&self.overlay, self.group, hash_bytes(op.key, op.key_bytes), &op,
                    <uint32_t>place)
        self.placed.catalogue = self.placed.catalogue or is_catalogue(&op)
        self.placed.ops_bytes += written
        self.placed.count += 1

    cdef uint32_t _evaluate_one(self, const AtomicOp *op, const Request *request,
                                int64_t *written) except? 0xFFFFFFFF nogil:
        """Put an atomic operation's result behind the others; `written`: its bytes, 0 for none."""
        cdef uint64_t hash = hash_bytes(op.key, op.key_bytes), place
        cdef uint32_t status
        cdef Held held
        status = self._held(op, request, hash, &held)
        if status:
            return status
        # To grow moves what `held` points to.
        self.grow(WAL_RECORD_HEADER_BYTES + self.placed.ops_bytes + atomic_room(op, &held) + 64)
        self._held(op, request, hash, &held)
        place = self.group_bytes + WAL_RECORD_HEADER_BYTES + self.placed.ops_bytes
        written[0] = atomic_apply(op, &held, self.group_time_us, self.group + place,
                                  &self.placed.reply)
        if written[0] < 0:
            return <uint32_t>-written[0]
        self.placed.reply.applied += written[0] > 0
        return 0

    cdef uint32_t _held(self, const AtomicOp *op, const Request *request, uint64_t hash,
                        Held *out) noexcept nogil:
        """Find what the key holds behind everything before this operation; a wire code if lost."""
        cdef uint32_t place = overlay_find(&self.overlay, self.group, hash, op.key, op.key_bytes)
        cdef Op last
        out.present = False
        out.value = NULL
        out.value_bytes = 0
        out.expires_us = 0
        if place != OVERLAY_NONE:
            if op_parse(self.group + place, 1 << 31, &last) and (
                    last.kind == KIND_PUT or last.kind == KIND_PUT_EXPIRING):
                out.present = True
                out.value, out.value_bytes = last.value, last.value_bytes
                out.expires_us = last.expires_us
        elif self._held_in(self.memtable, op, hash, out):
            pass
        elif self.frozen_count and self._held_frozen(op, hash, out):
            pass
        elif (not op.flags & (ATOMIC_HINT | ATOMIC_HINT_ABSENT) or request.generation == 0
                or request.snapshot_seq + 1 < self.history_first_seq):
            return CODE_HISTORY
        elif op.flags & ATOMIC_HINT:
            out.present = True
            out.value, out.value_bytes = op.hint, op.hint_bytes
            out.expires_us = op.hint_expires_us
        if out.present and out.expires_us and out.expires_us <= self.group_time_us:
            out.present = False
        if not out.present:
            out.value, out.value_bytes, out.expires_us = NULL, 0, 0
        return 0

    cdef int _held_in(self, Memtable memtable, const AtomicOp *op, uint64_t hash,
                      Held *out) noexcept nogil:
        """Take what one memtable knows of the key; UNKNOWN if it has neither version nor range."""
        cdef Hit hit
        cdef bint found = memtable.lookup(op.key, op.key_bytes, hash, 0xFFFFFFFFFFFFFFFF, &hit)
        cdef uint64_t covered = 0
        if memtable.range_count():
            covered = memtable.covering_seq(op.key, op.key_bytes, 0xFFFFFFFFFFFFFFFF)
        if not found and covered == 0:
            return UNKNOWN
        if found and hit.seq > covered and hit.kind != KIND_DELETE:
            out.present = True
            out.value, out.value_bytes, out.expires_us = hit.value, hit.value_bytes, hit.expires_us
        return KNOWN

    cdef int _held_frozen(self, const AtomicOp *op, uint64_t hash, Held *out) noexcept with gil:
        cdef Memtable frozen
        for frozen in self.history:
            if self._held_in(frozen, op, hash, out):
                return KNOWN
        return UNKNOWN
