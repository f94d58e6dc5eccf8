# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Hold the newest versions in shared memory: one writer, lock-free readers in any process.

Writer, reader and source are one module, because they share the layout's small inline functions.

A point lookup goes through an open-addressing hash index to a key node and along its versions,
newest first. Order is a skip list of key nodes. A node is shown by the hash index as soon as it
is written, and linked into the list afterwards, sixteen at a time in lockstep, so that their
cache misses overlap; `ordered_seq` on the control page says how far the order is complete.

Nothing moves and nothing is freed before the whole segment is: readers need no lock, only a pin
on the version that names the memtable.

Invariants
    M1  A node, its key and its first version are complete before its slot is stored (release).
    M2  A version is complete before the node's head names it (release); chains descend by sequence.
    M3  A node's own links are set before any link that leads to it is stored (release), and
        links are stored from level 0 upward: a reader sees a node on a level only if it can
        follow it there.
    M4  Offsets are bytes from the start of the segment, multiples of 8; 0 is nil.

Source: Pugh 1990 (skip lists); Herlihy and Shavit (publication by release stores); the lockstep
search is group prefetching as in Chen, Ailamaki, Gibbons and Mowry 2004, applied to inserts.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.cpu cimport (compare, hash_bytes, load32_acquire, load32_relaxed,
                                  load64_acquire, load64_relaxed, load_u64,
                                  store32_release, store32_relaxed, store64_relaxed,
                                  store64_release)
from ferrisdb.kernel.cpu cimport prefetch as prefetch_line
from ferrisdb.kernel.source cimport KIND_PUT_EXPIRING, KIND_RANGE_DELETE, Hit, Source
from ferrisdb.kernel.wal cimport Op, op_parse

from ferrisdb.errors import ProtocolError, UsageError

cdef enum:
    LOCKSTEP = 16           # searches kept in flight at once
    WALK_LEVEL = 4          # of which every 256th node is
    AHEAD_LINES = 12        # nodes that are prefetched ahead of the one that is shown
    NODE_HEADER = 8         # u32 versions head, u32 key bytes | height << 24
    VERSION_HEADER = 16     # u64 seq, u32 next, u32 value bytes | kind << 28
    # The most that one operation can take beyond its own encoded bytes: links, headers, expiry
    # and three roundings to 8.
    OP_OVERHEAD = 4 * 16 + 8 + 16 + 8 + 24

cdef uint64_t MAGIC = 0x00544D454D424446    # b"FDBMEMT\0", little-endian


cdef inline uint32_t _key_bytes(const uint8_t *node) noexcept nogil:
    return load32_relaxed(node + 4) & 0xFFFFFF


cdef inline uint32_t _next(const uint8_t *base, uint32_t node, uint32_t level) noexcept nogil:
    # Node 0 is the head: its links lie at a fixed place, level upward.
    if node == 0:
        return load32_acquire(base + c.MEMTABLE_HEAD + 4 * level)
    return load32_acquire(base + node - 4 * (level + 1))


cdef inline int _compare_node(const uint8_t *base, uint32_t node, const uint8_t *key,
                              uint32_t key_bytes) noexcept nogil:
    return compare(base + node + NODE_HEADER, _key_bytes(base + node), key, key_bytes)


cdef inline void _fill_hit(const uint8_t *version, Hit *out) noexcept nogil:
    cdef uint32_t word = load32_relaxed(version + 12)
    out.seq = load64_relaxed(version)
    out.kind = word >> 28
    out.value_bytes = word & 0xFFFFFFF
    if out.kind == KIND_PUT_EXPIRING:
        out.expires_us = load_u64(version + VERSION_HEADER)
        out.value = version + VERSION_HEADER + 8
    else:
        out.expires_us = 0
        out.value = version + VERSION_HEADER


cdef class Memtable:
    """A reader's handle of one memtable segment.

    Shape:   view, the mapped segment, formatted by `MemtableWriter`.
    Raises:  ProtocolError if the segment's header is not that of a memtable.
    Owner:   any process; the pages may be mapped read-only.
    """

    def __cinit__(self, view, *args):
        cdef int flags = PyBUF_WRITABLE if isinstance(self, MemtableWriter) else PyBUF_SIMPLE
        PyObject_GetBuffer(view, &self._buffer, flags)
        self._held = True
        self.base = <uint8_t *>self._buffer.buf
        self.nbytes = self._buffer.len

    def __init__(self, view):
        cdef uint64_t slots
        if self.nbytes < c.MEMTABLE_SLOTS_OFFSET or load_u64(self.base + c.MEMTABLE_MAGIC) != MAGIC:
            raise ProtocolError("this segment is not a memtable: restart the service")
        slots = load_u64(self.base + c.MEMTABLE_SLOT_COUNT)
        if (load32_relaxed(self.base + c.MEMTABLE_LAYOUT) != c.LAYOUT_VERSION or slots == 0
                or slots & (slots - 1) or c.MEMTABLE_SLOTS_OFFSET + slots * 8 > self.nbytes):
            raise ProtocolError("this memtable has another layout: run one FerrisDB version only")
        self.slot_mask = slots - 1
        self.number = load_u64(self.base + c.MEMTABLE_NUMBER)
        self.first_seq = load_u64(self.base + c.MEMTABLE_FIRST_SEQ)

    def __dealloc__(self):
        if self._held:
            PyBuffer_Release(&self._buffer)

    def close(self):
        """Let go of the mapped segment; the handle must not be used afterwards."""
        if self._held:
            self._held = False
            self.base = NULL
            PyBuffer_Release(&self._buffer)

    cdef void prefetch(self, uint64_t hash) noexcept nogil:
        prefetch_line(self.base + c.MEMTABLE_SLOTS_OFFSET + (hash & self.slot_mask) * 8)

    cdef uint32_t find_node(self, const uint8_t *key, uint32_t key_bytes,
                            uint64_t hash) noexcept nogil:
        """Return the key's node, or 0. The slots are never full, so a probe ends."""
        cdef const uint8_t *slots = self.base + c.MEMTABLE_SLOTS_OFFSET
        cdef uint64_t i = hash & self.slot_mask, slot
        cdef uint64_t tag = hash >> 32
        cdef const uint8_t *node
        while True:
            slot = load64_acquire(slots + i * 8)
            if slot == 0:
                return 0
            if slot >> 32 == tag:
                node = self.base + <uint32_t>slot
                if _key_bytes(node) == key_bytes and compare(
                        node + NODE_HEADER, key_bytes, key, key_bytes) == 0:
                    return <uint32_t>slot
            i = (i + 1) & self.slot_mask

    cdef bint lookup(self, const uint8_t *key, uint32_t key_bytes, uint64_t hash,
                     uint64_t snapshot_seq,
                     Hit *out) noexcept nogil:
        """Find the newest version at or below `snapshot_seq`, tombstones included."""
        cdef uint32_t node = self.find_node(key, key_bytes, hash), version
        if node == 0:
            return False
        version = load32_acquire(self.base + node)
        while version:
            if load64_relaxed(self.base + version) <= snapshot_seq:
                _fill_hit(self.base + version, out)
                return True
            version = load32_acquire(self.base + version + 8)
        return False

    cdef uint64_t newest_seq(self, const uint8_t *key, uint32_t key_bytes,
                             uint64_t hash) noexcept nogil:
        """Return the sequence of the key's newest version, 0 if it has none here."""
        cdef uint32_t node = self.find_node(key, key_bytes, hash)
        if node == 0:
            return 0
        return load64_relaxed(self.base + load32_acquire(self.base + node))

    cdef bint holds_any(self) noexcept nogil:
        return load64_relaxed(self.base + c.MEMTABLE_VERSIONS) != 0

    cdef uint32_t range_count(self) noexcept nogil:
        return load32_acquire(self.base + c.MEMTABLE_RANGE_COUNT)

    cdef uint64_t covering_tail(self, const uint8_t *key, uint32_t key_bytes, uint64_t snapshot_seq,
                                uint32_t skip_oldest) noexcept nogil:
        """Return the newest range tombstone <= snapshot over the key, 0 if none; one by one.

        The `skip_oldest` tombstones written first are left out: the caller has them in order.
        """
        cdef uint32_t left = load32_acquire(self.base + c.MEMTABLE_RANGE_COUNT)
        cdef uint32_t at = load32_acquire(self.base + c.MEMTABLE_RANGES)
        cdef const uint8_t *r
        cdef uint32_t start_bytes, end_bytes
        # The chain may have grown since the count was read: then more is looked at, never less.
        while at and left > skip_oldest:
            r = self.base + at
            if load64_relaxed(r) <= snapshot_seq:
                left -= 1
                start_bytes = load32_relaxed(r + 12)
                end_bytes = load32_relaxed(r + 16)
                if (compare(r + 24, start_bytes, key, key_bytes) <= 0
                        and (end_bytes == 0
                             or compare(key, key_bytes, r + 24 + start_bytes, end_bytes) < 0)):
                    return load64_relaxed(r)
            at = load32_relaxed(r + 8)
        return 0

    cdef uint64_t covering_seq(self, const uint8_t *key, uint32_t key_bytes,
                               uint64_t snapshot_seq) noexcept nogil:
        """Return the newest range tombstone <= snapshot over the key, 0 if none; O(tombstones)."""
        return self.covering_tail(key, key_bytes, snapshot_seq, 0)

    cdef bint changed_since(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                            uint32_t end_bytes, uint64_t seq) noexcept nogil:
        cdef uint32_t at = load32_acquire(self.base + c.MEMTABLE_RANGES)
        cdef uint32_t node = 0, succ, beyond = 0, s, e
        cdef int level = c.MEMTABLE_HEIGHT_MAX - 1
        cdef const uint8_t *r
        # Range tombstones are chained newest first.
        while at:
            r = self.base + at
            if load64_relaxed(r) <= seq:
                break
            s, e = load32_relaxed(r + 12), load32_relaxed(r + 16)
            if ((end_bytes == 0 or compare(r + 24, s, end, end_bytes) < 0)
                    and (e == 0 or compare(start, start_bytes, r + 24 + s, e) < 0)):
                return True
            at = load32_relaxed(r + 8)
        while level >= 0:
            succ = _next(self.base, node, level)
            if succ and succ != beyond and _compare_node(
                    self.base, succ, start, start_bytes) < 0:
                node = succ
            else:
                beyond = succ
                level -= 1
        node = _next(self.base, node, 0)
        while node and (end_bytes == 0 or _compare_node(self.base, node, end, end_bytes) < 0):
            if load64_relaxed(self.base + load32_acquire(self.base + node)) > seq:
                return True
            node = _next(self.base, node, 0)
            if node:
                prefetch_line(self.base + _next(self.base, node, 0))
        return False

    @property
    def range_tombstone_count(self):
        """Range tombstones written so far."""
        return self.range_count()

    @property
    def used_bytes(self):
        """Bytes of the segment in use, header and slots included."""
        return load64_acquire(self.base + c.MEMTABLE_USED)

    @property
    def key_count(self):
        """Distinct keys."""
        return load64_relaxed(self.base + c.MEMTABLE_KEYS)

    @property
    def version_count(self):
        """Versions of all keys."""
        return load64_relaxed(self.base + c.MEMTABLE_VERSIONS)

    def range_tombstones(self):
        """Return (start, end, sequence) of each range tombstone, newest first; b"": no bound."""
        cdef uint32_t at = load32_acquire(self.base + c.MEMTABLE_RANGES)
        cdef uint32_t start_bytes, end_bytes
        cdef const uint8_t *r
        found = []
        while at:
            r = self.base + at
            start_bytes = load32_relaxed(r + 12)
            end_bytes = load32_relaxed(r + 16)
            found.append(((<const char *>r + 24)[:start_bytes],
                          (<const char *>r + 24 + start_bytes)[:end_bytes], load64_relaxed(r)))
            at = load32_relaxed(r + 8)
        return found

    def get(self, bytes key not None, uint64_t snapshot_seq):
        """Return (sequence, kind, expires_us, value) of the version at the snapshot, or None."""
        cdef Hit hit
        cdef const uint8_t *k = <const uint8_t *><char *>key
        cdef uint32_t n = <uint32_t>len(key)
        if not self.lookup(k, n, hash_bytes(k, n), snapshot_seq, &hit):
            return None
        return hit.seq, hit.kind, hit.expires_us, (<const char *>hit.value)[:hit.value_bytes]

    def source(self, uint64_t snapshot_seq=0xFFFFFFFFFFFFFFFF, *, bint all_versions=False):
        """Return a `MemtableSource`; the caller makes sure that the order reaches the snapshot."""
        cdef MemtableSource source = MemtableSource()
        source.table = self
        source.snapshot_seq = snapshot_seq
        source.all_versions = all_versions
        source.lasting = True
        return source


cdef class MemtableWriter(Memtable):
    """The writer's handle: formats the segment and adds versions.

    Shape:   view, a zeroed writable segment of `limits.MEMTABLE_BYTES_MIN` bytes or more.
    Owner:   the coordinator alone.
    """

    def __init__(self, view, uint64_t number, uint64_t first_seq):
        cdef uint64_t slots = 1024
        if self.nbytes < 65536 or self.nbytes > (<uint64_t>1 << 31):
            raise UsageError(f"a memtable has 64 KiB to 2 GiB, not {self.nbytes} bytes")
        while slots * 2 <= self.nbytes // 64:
            slots *= 2
        self.number = number
        self.first_seq = first_seq
        self.slot_mask = slots - 1
        # Three quarters full, a linear probe takes two to three steps on average; the rest is the
        # room that makes every probe end.
        self.keys_max = slots - slots // 4
        self.used = c.MEMTABLE_SLOTS_OFFSET + slots * 8
        self.random = (number * <uint64_t>0x9E3779B97F4A7C15U) | 1
        self.height = 1
        store64_relaxed(self.base + c.MEMTABLE_NUMBER, number)
        store64_relaxed(self.base + c.MEMTABLE_BYTES, self.nbytes)
        store64_relaxed(self.base + c.MEMTABLE_SLOT_COUNT, slots)
        store64_relaxed(self.base + c.MEMTABLE_ARENA_OFFSET, self.used)
        store64_relaxed(self.base + c.MEMTABLE_USED, self.used)
        store64_relaxed(self.base + c.MEMTABLE_FIRST_SEQ, first_seq)
        store32_relaxed(self.base + c.MEMTABLE_LAYOUT, c.LAYOUT_VERSION)
        store64_release(self.base + c.MEMTABLE_MAGIC, MAGIC)

    def __dealloc__(self):
        free(self.pending)
        free(self.pending_seq)

    cdef bint has_room(self, uint64_t ops_bytes, uint64_t count) noexcept nogil:
        return (self.used + ops_bytes + count * OP_OVERHEAD <= self.nbytes
                and self.keys + count <= self.keys_max)

    cdef bint could_hold(self, uint64_t ops_bytes, uint64_t count) noexcept nogil:
        # Whether an empty memtable of this size would have room.
        return (c.MEMTABLE_SLOTS_OFFSET + (self.slot_mask + 1) * 8 + ops_bytes + count * OP_OVERHEAD
                <= self.nbytes and count <= self.keys_max)

    cdef int reserve_pending(self, uint64_t count) except -1 nogil:
        """Make room to remember `count` more unlinked nodes, so that apply_ops can't fail."""
        cdef uint64_t want = self.pending_end + count
        cdef void *grown
        if self.pending_first == self.pending_end:
            self.pending_first = self.pending_end = 0
            want = count
        if want <= self.pending_room:
            return 0
        want = want * 2 if want > 4096 else 8192
        grown = realloc(self.pending, want * sizeof(uint32_t))
        if grown == NULL:
            with gil:
                raise MemoryError()
        self.pending = <uint32_t *>grown
        grown = realloc(self.pending_seq, want * sizeof(uint64_t))
        if grown == NULL:
            with gil:
                raise MemoryError()
        self.pending_seq = <uint64_t *>grown
        self.pending_room = <uint32_t>want
        return 0

    cdef uint32_t _alloc(self, uint64_t nbytes) noexcept nogil:
        cdef uint64_t at = self.used
        self.used = (at + nbytes + 7) & ~<uint64_t>7
        return <uint32_t>at

    cdef void _insert(self, uint8_t kind, const uint8_t *key, uint32_t key_bytes, uint64_t hash,
                      const uint8_t *value, uint32_t value_bytes, uint64_t expires_us,
                      uint64_t seq) noexcept nogil:
        cdef uint8_t *base = self.base
        cdef uint8_t *slots = base + c.MEMTABLE_SLOTS_OFFSET
        cdef uint64_t i, slot
        cdef uint32_t node = self.find_node(key, key_bytes, hash)
        cdef uint32_t version, height, links
        cdef bint fresh = node == 0
        if fresh:
            # xorshift64*: a height of h + 1 with probability 1/4 of h's.
            self.random ^= self.random >> 12
            self.random ^= self.random << 25
            self.random ^= self.random >> 27
            i = self.random * <uint64_t>0x2545F4914F6CDD1DU
            height = 1
            while height < c.MEMTABLE_HEIGHT_MAX and (i >> 62) == 0:
                height += 1
                i <<= 2
            links = (height * 4 + 7) & ~7
            node = self._alloc(links + NODE_HEADER + key_bytes) + links
            store32_relaxed(base + node + 4, key_bytes | height << 24)
            memcpy(base + node + NODE_HEADER, key, key_bytes)
        version = self._alloc(
            VERSION_HEADER + (8 if kind == KIND_PUT_EXPIRING else 0) + value_bytes)
        store64_relaxed(base + version, seq)
        store32_relaxed(base + version + 8, 0 if fresh else load32_relaxed(base + node))
        store32_relaxed(base + version + 12, value_bytes | <uint32_t>kind << 28)
        if kind == KIND_PUT_EXPIRING:
            store64_relaxed(base + version + VERSION_HEADER, expires_us)
            memcpy(base + version + VERSION_HEADER + 8, value, value_bytes)
        else:
            memcpy(base + version + VERSION_HEADER, value, value_bytes)
        store32_release(base + node, version)           # M2
        self.versions += 1
        if fresh:
            i = hash & self.slot_mask
            while load64_relaxed(slots + i * 8):
                i = (i + 1) & self.slot_mask
            slot = (hash >> 32) << 32 | node
            store64_release(slots + i * 8, slot)        # M1
            self.keys += 1
            self.pending[self.pending_end] = node
            self.pending_seq[self.pending_end] = seq
            self.pending_end += 1

    cdef void _insert_range(self, const uint8_t *start, uint32_t start_bytes, const uint8_t *end,
                            uint32_t end_bytes, uint64_t seq) noexcept nogil:
        cdef uint8_t *base = self.base
        cdef uint32_t at = self._alloc(24 + <uint64_t>start_bytes + end_bytes)
        store64_relaxed(base + at, seq)
        store32_relaxed(base + at + 8, load32_relaxed(base + c.MEMTABLE_RANGES))
        store32_relaxed(base + at + 12, start_bytes)
        store32_relaxed(base + at + 16, end_bytes)
        memcpy(base + at + 24, start, start_bytes)
        memcpy(base + at + 24 + start_bytes, end, end_bytes)
        store32_release(base + c.MEMTABLE_RANGES, at)
        store32_release(base + c.MEMTABLE_RANGE_COUNT,
                        load32_relaxed(base + c.MEMTABLE_RANGE_COUNT) + 1)
        self.versions += 1

    cdef void apply_ops(self, const uint8_t *ops, uint64_t ops_bytes,
                        uint64_t first_seq) noexcept nogil:
        """Add well-formed operations; has_room and reserve_pending were asked before."""
        cdef Op window[LOCKSTEP]
        cdef uint64_t hashes[LOCKSTEP]
        cdef uint64_t at = 0, seq = first_seq
        cdef uint32_t n, i, used
        while at < ops_bytes:
            n = 0
            while n < LOCKSTEP and at < ops_bytes:
                used = op_parse(ops + at, ops_bytes - at, &window[n])
                if used == 0:
                    break
                at += used
                if window[n].kind != KIND_RANGE_DELETE:
                    hashes[n] = hash_bytes(window[n].key, window[n].key_bytes)
                    self.prefetch(hashes[n])
                n += 1
            for i in range(n):
                if window[i].kind == KIND_RANGE_DELETE:
                    self._insert_range(window[i].key, window[i].key_bytes, window[i].value,
                                       window[i].value_bytes, seq)
                else:
                    self._insert(window[i].kind, window[i].key, window[i].key_bytes, hashes[i],
                                 window[i].value, window[i].value_bytes, window[i].expires_us, seq)
                seq += 1
            if n == 0:
                break
        store64_release(self.base + c.MEMTABLE_USED, self.used)
        store64_relaxed(self.base + c.MEMTABLE_KEYS, self.keys)
        store64_relaxed(self.base + c.MEMTABLE_VERSIONS, self.versions)

    cdef void link_some(self, uint32_t count_max) noexcept nogil:
        """Link up to `count_max` pending nodes into the skip list, LOCKSTEP searches at a time."""
        cdef uint32_t preds[LOCKSTEP][16]
        cdef uint32_t n, i
        while self.pending_first < self.pending_end and count_max:
            n = self.pending_end - self.pending_first
            n = LOCKSTEP if n > LOCKSTEP else n
            n = count_max if n > count_max else n
            count_max -= n
            self._search(self.pending + self.pending_first, n, preds)
            for i in range(n):
                self._splice(self.pending[self.pending_first + i], preds[i])
            self.pending_first += n

    cdef void _search(self, const uint32_t *nodes, uint32_t n, uint32_t preds[][16]) noexcept nogil:
        """Find each node's predecessors on all levels, one step of each search in turn."""
        cdef uint32_t at[LOCKSTEP]
        cdef uint32_t next_[LOCKSTEP]
        cdef uint32_t beyond[LOCKSTEP]
        cdef int level[LOCKSTEP]
        cdef uint32_t i, active = n, node, succ, height
        cdef int top
        cdef uint8_t *base = self.base
        for i in range(n):
            height = load32_relaxed(base + nodes[i] + 4) >> 24
            if height > self.height:
                self.height = height
        top = <int>self.height - 1
        for i in range(n):
            at[i] = beyond[i] = 0
            level[i] = top
            next_[i] = _next(base, 0, top)
        while active:
            active = 0
            for i in range(n):
                if level[i] < 0:
                    continue
                active += 1
                node = nodes[i]
                succ = next_[i]
                # What was found to lie beyond the key on the level above lies beyond it here.
                if succ != 0 and succ != beyond[i] and _compare_node(
                        base, succ, base + node + NODE_HEADER, _key_bytes(base + node)) < 0:
                    at[i] = succ
                else:
                    beyond[i] = succ
                    preds[i][level[i]] = at[i]
                    level[i] -= 1
                    if level[i] < 0:
                        continue
                next_[i] = _next(base, at[i], level[i])
                # The links lie just below the header, often in the line before the key's.
                prefetch_line(base + next_[i])

    cdef void _splice(self, uint32_t node, uint32_t *preds) noexcept nogil:
        """Link one node behind its predecessors, or behind what was linked there since."""
        cdef uint8_t *base = self.base
        cdef const uint8_t *key = base + node + NODE_HEADER
        cdef uint32_t key_bytes = _key_bytes(base + node)
        cdef int height = load32_relaxed(base + node + 4) >> 24, k
        cdef uint32_t pred, succ
        for k in range(height):
            pred = preds[k]
            succ = _next(base, pred, k)
            while succ and _compare_node(base, succ, key, key_bytes) < 0:
                pred = succ
                succ = _next(base, pred, k)
            preds[k] = pred
            store32_relaxed(base + node - 4 * (k + 1), succ)
        for k in range(height):                         # M3
            if preds[k] == 0:
                store32_release(base + c.MEMTABLE_HEAD + 4 * k, node)
            else:
                store32_release(base + preds[k] - 4 * (k + 1), node)

    def link_all(self):
        """Complete the order."""
        with nogil:
            self.link_some(0xFFFFFFFF)

    def apply_records(self, const uint8_t[::1] buffer not None, uint64_t start, uint64_t end):
        """Add the operations of whole WAL records that stand one behind the other.

        Shape:   buffer[start:end] holds records that recovery has found valid.
        Returns: the offset of the first record for which there was no room; `end` if all fit.
        Raises:  ProtocolError at a record that can't be; what stood before it was added.
        """
        cdef uint64_t at = start
        cdef uint64_t total
        cdef const uint8_t *r
        cdef uint64_t ops_bytes, count
        if end > <uint64_t>buffer.shape[0] or start > end or start & 7:
            raise UsageError("the records lie outside the buffer")
        with nogil:
            while at + 72 <= end:
                r = &buffer[at]
                ops_bytes = load32_relaxed(r + 4)
                count = load32_relaxed(r + 16)
                total = (72 + ops_bytes + (load32_relaxed(r + 20) >> 16) + 7) & ~<uint64_t>7
                if total > end - at:
                    with gil:
                        raise ProtocolError(f"the record at byte {at} passes the end of the log")
                if not self.has_room(ops_bytes, count):
                    break
                self.reserve_pending(count)
                self.apply_ops(r + 72, ops_bytes, load_u64(r + 8))
                self.link_some(0xFFFFFFFF)
                at += total
        return at

    def room_for(self, uint64_t ops_bytes, uint64_t count):
        """Tell whether `count` operations of `ops_bytes` encoded bytes fit for certain."""
        return self.has_room(ops_bytes, count)

    def apply(self, const uint8_t[::1] ops not None, uint64_t count, uint64_t first_seq):
        """Add encoded operations and link them; for tests and the simulation."""
        if not self.has_room(ops.shape[0], count):
            raise UsageError("the memtable is full")
        self.reserve_pending(count)
        if ops.shape[0]:
            self.apply_ops(&ops[0], ops.shape[0], first_seq)


cdef bint _more_room(uint32_t **part, uint64_t *room) noexcept nogil:
    cdef void *grown = realloc(part[0], (2 * room[0] + 1024) * sizeof(uint32_t))
    if grown == NULL:
        return False
    part[0], room[0] = <uint32_t *>grown, 2 * room[0] + 1024
    return True


cdef class MemtableSource(Source):
    """The entries of one memtable in key order; made by `Memtable.source`.

    A source of all versions, as a flush reads it, notes the order of all nodes before it shows the
    first one. A walk from node to node waits for memory at each; sixteen walks over parts of the
    list wait together, and with the order known what is ahead is prefetched.
    """

    def __dealloc__(self):
        free(self.order)

    cdef void _note_order(self) noexcept nogil:
        """Walk the list at sixteen places at once; without memory for it, the order is not noted.

        What is linked in meanwhile may be missed, so the memtable is one that is written no more.
        """
        cdef const uint8_t *base = self.table.base
        cdef uint32_t *parts[LOCKSTEP]
        cdef uint64_t room[LOCKSTEP]
        cdef uint64_t used[LOCKSTEP]
        cdef uint32_t node[LOCKSTEP]
        cdef uint32_t stop[LOCKSTEP]
        cdef uint64_t count = load64_relaxed(base + c.MEMTABLE_KEYS), total = 0
        cdef uint32_t begin, i, walks, active
        cdef bint failed = False, first = True
        memset(parts, 0, sizeof(parts))
        memset(room, 0, sizeof(room))
        self.order = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        begin = 0
        while self.order != NULL and not failed:
            walks = 0
            while walks < LOCKSTEP and (begin or first):
                node[walks] = begin if begin else _next(base, 0, 0)
                first = False
                begin = _next(base, begin, WALK_LEVEL)
                stop[walks] = begin
                used[walks] = 0
                walks += 1
            if walks == 0:
                break
            active = walks
            while active and not failed:
                active = 0
                for i in range(walks):
                    if node[i] == stop[i]:
                        continue
                    active += 1
                    if used[i] == room[i]:
                        failed = failed or not _more_room(&parts[i], &room[i])
                        if failed:
                            break
                    parts[i][used[i]] = node[i]
                    used[i] += 1
                    node[i] = _next(base, node[i], 0)
                    prefetch_line(base + node[i] - 4)
            for i in range(walks):
                if failed or total + used[i] > count:
                    failed = True
                    break
                memcpy(self.order + total, parts[i], used[i] * sizeof(uint32_t))
                total += used[i]
        for i in range(LOCKSTEP):
            free(parts[i])
        if failed or total != count:
            free(self.order)
            self.order = NULL
        self.order_count, self.place = total, 0

    cdef void _forget_order(self) noexcept nogil:
        free(self.order)
        self.order = NULL

    cdef void _go_on(self) noexcept nogil:
        """Move to the next node of the noted order, and prefetch one that is further ahead."""
        cdef const uint8_t *ahead
        self.place += 1
        self.node = self.order[self.place] if self.place < self.order_count else 0
        if self.place + AHEAD_LINES < self.order_count:
            ahead = self.table.base + self.order[self.place + AHEAD_LINES]
            prefetch_line(ahead)
            prefetch_line(ahead + 64)
            prefetch_line(ahead + 128)

    cdef bint _show(self) noexcept nogil:
        # Shows the node's version at the snapshot; False if it has none there.
        cdef const uint8_t *base = self.table.base
        cdef uint32_t version = load32_acquire(base + self.node)
        while version and load64_relaxed(base + version) > self.snapshot_seq:
            version = load32_acquire(base + version + 8)
        if version == 0:
            return False
        self.version = version
        self.key = base + self.node + NODE_HEADER
        self.key_bytes = _key_bytes(base + self.node)
        _fill_hit(base + version, &self.hit)
        self.valid = True
        return True

    cdef void _show_forward(self) noexcept nogil:
        self.valid = False
        while self.node:
            if self._show():
                return
            self._next_node()

    cdef void _next_node(self) noexcept nogil:
        if self.order != NULL:
            self._go_on()
        else:
            self._follow()

    cdef void _follow(self) noexcept nogil:
        """Move to the next node by its link; the one behind it comes while it is dealt with."""
        cdef const uint8_t *base = self.table.base
        cdef const uint8_t *ahead
        self.node = _next(base, self.node, 0)
        if self.node:
            # Nodes lie in the order of their making, each before its first version.
            ahead = base + _next(base, self.node, 0)
            prefetch_line(ahead)
            prefetch_line(ahead + 64)
            prefetch_line(ahead + 128)

    cdef uint32_t _last_before(self, const uint8_t *key, uint32_t key_bytes,
                               bint unbounded) noexcept nogil:
        # The last node < key (or the last of all), 0 if there is none.
        cdef const uint8_t *base = self.table.base
        cdef uint32_t at = 0, succ, beyond = 0
        cdef int level = c.MEMTABLE_HEIGHT_MAX - 1
        while level >= 0:
            succ = _next(base, at, level)
            if succ and succ != beyond and (
                    unbounded or _compare_node(base, succ, key, key_bytes) < 0):
                at = succ
            else:
                beyond = succ
                level -= 1
        return at

    cdef void _show_backward(self) noexcept nogil:
        self.valid = False
        while self.node:
            if self._show():
                return
            self.node = self._last_before(self.table.base + self.node + NODE_HEADER,
                                          _key_bytes(self.table.base + self.node), False)

    cdef int seek_first(self) except -1 nogil:
        self._forget_order()
        self.node = _next(self.table.base, 0, 0)
        if self.all_versions:
            self._note_order()
        self._show_forward()
        return 0

    cdef int seek_last(self) except -1 nogil:
        self._forget_order()
        self.node = self._last_before(NULL, 0, True)
        self._show_backward()
        return 0

    cdef int seek(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        self._forget_order()
        self.node = _next(self.table.base, self._last_before(key, key_bytes, False), 0)
        self._show_forward()
        return 0

    cdef int seek_before(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        self._forget_order()
        self.node = self._last_before(key, key_bytes, False)
        self._show_backward()
        return 0

    cdef int step(self) except -1 nogil:
        if self.all_versions:
            self.version = load32_acquire(self.table.base + self.version + 8)
            if self.version:
                _fill_hit(self.table.base + self.version, &self.hit)
                return 0
        self._next_node()
        self._show_forward()
        return 0

    cdef int step_back(self) except -1 nogil:
        self._forget_order()
        self.node = self._last_before(self.key, self.key_bytes, False)
        self._show_backward()
        return 0

    def rows(self):
        """Yield (key, sequence, kind, expires_us, value) from the first entry on; for tests."""
        self.seek_first()
        while self.valid:
            yield ((<const char *>self.key)[:self.key_bytes], self.hit.seq, self.hit.kind,
                   self.hit.expires_us, (<const char *>self.hit.value)[:self.hit.value_bytes])
            self.step()
