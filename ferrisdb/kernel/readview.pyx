# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Look a key up in the memtables and tables of one version, newest first.

Of the tables only those are looked into whose key range holds the key: in level 0 each is asked,
in the other levels, whose tables don't overlap, one is found by binary search.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from ferrisdb.kernel.cpu cimport compare, hash_bytes
from ferrisdb.kernel.memtable cimport Memtable
from ferrisdb.kernel.source cimport KIND_DELETE, Hit
from ferrisdb.kernel.table cimport Table
from ferrisdb.kernel.tableformat cimport key_head
from ferrisdb.kernel.tombstones cimport RangeTombstones

from ferrisdb.errors import UsageError

cdef enum:
    LEVEL_MAX = 63              # of a version page
    RANGE_TAIL_MAX = 16         # newest range tombstones of a memtable that are searched one by one


cdef inline uint32_t shared_bytes(const uint8_t *a, uint32_t n, const uint8_t *b) noexcept:
    cdef uint32_t i = 0
    while i < n and a[i] == b[i]:
        i += 1
    return i


cdef class ReadView:
    """The memtables and tables of one epoch, newest first.

    Shape:   page, what the version page said; memtables, `Memtable`; tables, `Table`, in the
             order of page.tables.
    """

    def __cinit__(self, uint64_t epoch, page, list memtables not None, list tables not None):
        cdef int i
        self.epoch = epoch
        self.page = page
        self.memtables = memtables
        self.tables = tables
        self.memtable_count = <int>len(memtables)
        self.memtable_at = <PyObject **>malloc((self.memtable_count + 1) * sizeof(PyObject *))
        self.ranges_held = <uint32_t *>calloc(self.memtable_count + 1, sizeof(uint32_t))
        if not self.memtable_at or not self.ranges_held:
            raise MemoryError()
        for i in range(self.memtable_count):
            self.memtable_at[i] = <PyObject *>(<Memtable?>memtables[i])
        self._place_tables(tables, page.tables)
        self.ranges = [None] * self.memtable_count

    def __dealloc__(self):
        free(self.memtable_at)
        free(self.places)
        free(self.runs)
        free(self.candidates)
        free(self.ranges_held)

    cdef int _place_tables(self, tables, refs) except -1:
        cdef uint32_t i = 0, at = 0, level = 0, count = <uint32_t>len(tables)
        cdef Place *place
        cdef Run *run = NULL
        cdef const uint8_t *k
        if count != len(refs):
            raise UsageError("a view needs each table that its page names")
        self.keys = b"".join([ref.smallest + ref.largest for ref in refs])
        self.key_at = self.keys
        self.places = <Place *>calloc(count + 1, sizeof(Place))
        self.runs = <Run *>calloc(LEVEL_MAX + 1, sizeof(Run))
        if not self.places or not self.runs:
            raise MemoryError()
        for table, ref in zip(tables, refs):
            place = &self.places[i]
            place.table = <PyObject *>(<Table?>table)
            place.smallest, place.smallest_bytes = at, <uint32_t>len(ref.smallest)
            place.largest = at + place.smallest_bytes
            place.largest_bytes = <uint32_t>len(ref.largest)
            place.unbounded = ref.unbounded
            at += place.smallest_bytes + place.largest_bytes
            if ref.level == 0:
                self.level0_count += 1
            elif run == NULL or ref.level != level:
                level = ref.level
                run = &self.runs[self.run_count]
                self.run_count += 1
                run.first, run.shared = i, place.smallest_bytes
            i += 1
            if run != NULL:
                run.end = i
                # Ascending keys share what the first and the last of them share.
                k = self.key_at + self.places[run.first].smallest
                run.shared = shared_bytes(k, min(run.shared, place.smallest_bytes),
                                          self.key_at + place.smallest)
        for level in range(self.run_count):
            run = &self.runs[level]
            for i in range(run.first, run.end):
                place = &self.places[i]
                place.head = key_head(self.key_at + place.smallest + run.shared,
                                      place.smallest_bytes - run.shared)
        self.candidate_max = self.level0_count + self.run_count
        self.candidates = <PyObject **>malloc(
            (LOOKUP_WINDOW * self.candidate_max + 1) * sizeof(PyObject *))
        if not self.candidates:
            raise MemoryError()
        return 0

    cdef bint _below_end(self, Place *place, const uint8_t *key, uint32_t key_bytes) noexcept:
        return place.unbounded or compare(
            key, key_bytes, self.key_at + place.largest, place.largest_bytes) <= 0

    cdef int64_t _in_run(self, Run *run, const uint8_t *key, uint32_t key_bytes) noexcept:
        """Find the level's last table that begins at or below the key; -1: none holds it.

        The table before may end in the very same key, but then in a range tombstone's exclusive
        end: it says nothing of the key.
        """
        cdef const uint8_t *first = self.key_at + self.places[run.first].smallest
        cdef uint32_t low = run.first, high = run.end, middle, n = min(key_bytes, run.shared)
        cdef int order = compare(key, n, first, run.shared)
        cdef uint64_t head
        if order < 0:
            return -1
        if order == 0:
            head = key_head(key + run.shared, key_bytes - run.shared)
            while low < high:
                middle = (low + high) >> 1
                if self.places[middle].head < head or (self.places[middle].head == head and compare(
                        self.key_at + self.places[middle].smallest,
                        self.places[middle].smallest_bytes, key, key_bytes) <= 0):
                    low = middle + 1
                else:
                    high = middle
            if low == run.first:
                return -1
        else:
            low = run.end
        if not self._below_end(&self.places[low - 1], key, key_bytes):
            return -1
        return low - 1

    cdef int choose(self, const uint8_t *key, uint32_t key_bytes, PyObject **out) noexcept:
        """List the tables that can say something of the key, newest first; returns how many."""
        cdef uint32_t i
        cdef int count = 0
        cdef int64_t found
        cdef Place *place
        for i in range(self.level0_count):
            place = &self.places[i]
            if (compare(self.key_at + place.smallest, place.smallest_bytes, key, key_bytes) <= 0
                    and self._below_end(place, key, key_bytes)):
                out[count] = place.table
                count += 1
        for i in range(self.run_count):
            found = self._in_run(&self.runs[i], key, key_bytes)
            if found >= 0:
                out[count] = self.places[found].table
                count += 1
        return count

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

    def all_ranges(self, tables):
        """Return the range tombstones of the memtables and of these tables, fragmented."""
        self.refresh_ranges()
        found = [r for r in self.ranges if r is not None]
        for table in tables:
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

    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes,
                    uint64_t snapshot_seq, Hit *out) except -1:
        """Find the key's newest version at the snapshot. 1: found, live unless expired; 0: absent.

        Sources are ordered in time: what a source says of a key, older ones can't change. So the
        first version found decides, together with the range tombstones met until then.
        """
        cdef uint64_t hash = hash_bytes(key, key_bytes)
        cdef int i, count = self.choose(key, key_bytes, self.candidates)
        for i in range(self.memtable_count):
            (<Memtable>self.memtable_at[i]).prefetch(hash)
        for i in range(count):
            (<Table>self.candidates[i]).prefetch(hash)
        return self.probe(key, key_bytes, hash, snapshot_seq, self.candidates, count, out)

    cdef int probe(self, const uint8_t *key, uint32_t key_bytes, uint64_t hash,
                   uint64_t snapshot_seq, PyObject **tables, int table_count, Hit *out) except -1:
        """Look into the memtables and then the chosen tables, as `lookup` does."""
        cdef uint64_t covered = 0
        cdef int i
        cdef Memtable memtable
        cdef Table table
        for i in range(self.memtable_count):
            memtable = <Memtable>self.memtable_at[i]
            if memtable.range_count():
                covered = self.covering(i, key, key_bytes, snapshot_seq)
            if memtable.lookup(key, key_bytes, hash, snapshot_seq, out):
                return out.kind != KIND_DELETE and out.seq > covered
            if covered:
                return 0
        for i in range(table_count):
            table = <Table>tables[i]
            if table.has_tombstones:
                covered = table.covering_seq(key, key_bytes, snapshot_seq)
            if table.lookup(key, key_bytes, hash, snapshot_seq, out):
                # An entry of which no snapshot needs the sequence has 0.
                return out.kind != KIND_DELETE and out.seq >= covered
            if covered:
                return 0
        return 0
