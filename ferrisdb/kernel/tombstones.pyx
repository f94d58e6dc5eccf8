# cython: language_level=3, boundscheck=False
"""Answer which range tombstone covers a key, for one memtable or table.

Ranges [start, end) are cut where any of them starts or ends, so that the pieces (fragments)
are disjoint and sorted and a lookup is one binary search, however many ranges overlap. A
fragment carries every sequence that covers it, newest first, for snapshots of any age.

Source: RocksDB's fragmented range tombstone list; ours is immutable and searched without locks.
"""

from bisect import insort

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from ferrisdb.kernel.cpu cimport compare

from ferrisdb.errors import UsageError


def fragment_ranges(ranges, gc_floor=0):
    """Cut ranges (start, end, seq) into disjoint fragments (start, end, seqs).

    Shape:   an empty end means no upper bound; order doesn't matter; seqs come out descending.
             Of the sequences at or below `gc_floor` a fragment keeps the newest alone: no
             snapshot can tell the others from it.
    Raises:  UsageError, if a range is empty or its sequence is 0.
    Cost:    O(n log n), and what overlaps is repeated in each piece.
    """
    events = []
    for start, end, seq in ranges:
        if seq <= 0:
            raise UsageError(f"a range tombstone needs a sequence above 0, not {seq}")
        if end and start >= end:
            raise UsageError(f"a range tombstone needs start < end, not {start!r} and {end!r}")
        events.append((start, True, seq))
        if end:
            events.append((end, False, seq))
    events.sort()
    fragments = []
    active = []
    previous = b""
    for key, opens, seq in events:
        if key != previous:
            _append_fragment(fragments, previous, key, active, gc_floor)
            previous = key
        if opens:
            insort(active, seq)
        else:
            active.remove(seq)
    _append_fragment(fragments, previous, b"", active, gc_floor)
    return fragments


def _append_fragment(list fragments, bytes start, bytes end, list active, gc_floor):
    """Add [start, end) under the active sequences, joined to its neighbour where they agree."""
    seqs = []
    for seq in reversed(active):
        if not seqs or seq != seqs[-1]:
            seqs.append(seq)
        if seq <= gc_floor:
            break
    if not seqs:
        return
    if fragments and fragments[-1][1] == start and fragments[-1][2] == tuple(seqs):
        fragments[-1] = (fragments[-1][0], end, tuple(seqs))
    else:
        fragments.append((start, end, tuple(seqs)))


@cython.final
cdef class RangeTombstones:
    """The range tombstones of one source, immutable, in private memory."""

    def __cinit__(self, ranges=(), gc_floor=0):
        fragments = fragment_ranges(ranges, gc_floor)
        cdef uint64_t seq_total = sum(len(part[2]) for part in fragments)
        cdef uint64_t i = 0, s = 0, at = 0
        cdef Fragment *f
        self.keys = b"".join([part[0] + part[1] for part in fragments])
        self.key_base = <const uint8_t *>self.keys
        self.fragment_count = len(fragments)
        self.fragment = <Fragment *>calloc(self.fragment_count + 1, sizeof(Fragment))
        self.seqs = <uint64_t *>calloc(seq_total + 1, sizeof(uint64_t))
        if self.fragment == NULL or self.seqs == NULL:
            raise MemoryError
        for start, end, seqs in fragments:
            f = &self.fragment[i]
            f.start, f.start_bytes = at, len(start)
            f.end, f.end_bytes = at + len(start), len(end)
            f.unbounded = not end
            f.first_seq, f.seq_count = s, len(seqs)
            at += len(start) + len(end)
            for seq in seqs:
                self.seqs[s] = seq
                s += 1
            i += 1
            self.newest_seq = max(self.newest_seq, seqs[0])
            self.oldest_seq = min(self.oldest_seq or seqs[-1], seqs[-1])

    def __dealloc__(self):
        free(self.fragment)
        free(self.seqs)

    def __len__(self):
        return self.fragment_count

    cdef uint64_t covering(self, const uint8_t *key, uint32_t key_bytes,
                           uint64_t snapshot_seq) noexcept nogil:
        cdef uint64_t low = 0, high = self.fragment_count, middle, i
        cdef const uint8_t *keys = self.key_base
        cdef Fragment *f
        while low < high:                   # the first fragment that starts above the key
            middle = (low + high) >> 1
            f = &self.fragment[middle]
            if compare(keys + f.start, f.start_bytes, key, key_bytes) <= 0:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return 0
        f = &self.fragment[low - 1]
        if not f.unbounded and compare(key, key_bytes, keys + f.end, f.end_bytes) >= 0:
            return 0
        for i in range(f.seq_count):
            if self.seqs[f.first_seq + i] <= snapshot_seq:
                return self.seqs[f.first_seq + i]
        return 0

    def covering_seq(self, bytes key not None, uint64_t snapshot_seq):
        """Return the newest sequence <= `snapshot_seq` that covers `key`, or 0."""
        return self.covering(<const uint8_t *>key, <uint32_t>len(key), snapshot_seq)

    def fragments(self):
        """Return [(start, end, seqs descending)], sorted; an empty end means unbounded."""
        found = []
        cdef Fragment *f
        cdef uint64_t i
        for i in range(self.fragment_count):
            f = &self.fragment[i]
            found.append((
                self.keys[f.start:f.start + f.start_bytes],
                self.keys[f.end:f.end + f.end_bytes],
                tuple([self.seqs[f.first_seq + s] for s in range(f.seq_count)]),
            ))
        return found

    def ranges(self):
        """Return [(start, end, seq)]: what builds these tombstones again."""
        return [(start, end, seq) for start, end, seqs in self.fragments() for seq in seqs]
