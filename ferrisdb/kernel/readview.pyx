# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Look keys up in the memtables and tables of one version, newest first.

Of the tables only those are looked into whose key range holds the key: in level 0 each is asked,
in the other levels, whose tables don't overlap, one is found by binary search. A table is opened
when it is first asked.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from ferrisdb.kernel.cpu cimport hash_bytes
from ferrisdb.kernel.level cimport Level
from ferrisdb.kernel.memtable cimport Memtable
from ferrisdb.kernel.merge cimport Scan
from ferrisdb.kernel.run cimport TableRun
from ferrisdb.kernel.source cimport KIND_DELETE, Hit
from ferrisdb.kernel.table cimport Table
from ferrisdb.kernel.tombstones cimport RangeTombstones

from itertools import groupby
from operator import attrgetter

cdef enum:
    RANGE_TAIL_MAX = 16         # newest range tombstones of a memtable that are searched one by one


cdef class ReadView:
    """The memtables and tables of one epoch, newest first.

    Shape:   page, what the version page said; memtables, `Memtable`; opener, returns the `Table`
             of one of page.tables; tables, by number, those that are open already.
    """

    def __cinit__(self, uint64_t epoch, page, list memtables not None, opener, dict tables=None):
        cdef int i
        self.epoch = epoch
        self.page = page
        self.memtables = memtables
        self.memtable_count = <int>len(memtables)
        self.memtable_at = <PyObject **>malloc((self.memtable_count + 1) * sizeof(PyObject *))
        self.filled = <bint *>calloc(self.memtable_count + 1, sizeof(bint))
        self.ranges_held = <uint32_t *>calloc(self.memtable_count + 1, sizeof(uint32_t))
        if not self.memtable_at or not self.filled or not self.ranges_held:
            raise MemoryError()
        for i in range(self.memtable_count):
            self.memtable_at[i] = <PyObject *>(<Memtable?>memtables[i])
        self._place_tables(page.tables, opener, tables or {})
        self.ranges = [None] * self.memtable_count

    def __dealloc__(self):
        free(self.memtable_at)
        free(self.filled)
        free(self.run_at)
        free(self.candidates)
        free(self.ranges_held)

    cdef int _place_tables(self, refs, opener, tables) except -1:
        cdef uint32_t i
        self.runs = []
        self.level0 = TableRun(())
        for level, group in groupby(refs, attrgetter("level")):
            of_level = list(group)
            run = TableRun(of_level, opener, [tables.get(ref.number) for ref in of_level])
            if level == 0:
                self.level0 = run
            else:
                self.runs.append(run)
        self.run_count = <uint32_t>len(self.runs)
        self.run_at = <PyObject **>malloc((self.run_count + 1) * sizeof(PyObject *))
        self.candidate_max = self.level0.count + self.run_count
        self.candidates = <PyObject **>malloc(
            (LOOKUP_WINDOW * self.candidate_max + 1) * sizeof(PyObject *))
        if not self.run_at or not self.candidates:
            raise MemoryError()
        for i in range(self.run_count):
            self.run_at[i] = <PyObject *>self.runs[i]
        return 0

    cdef int _choose(self, const uint8_t *key, uint32_t key_bytes, uint64_t key_hash,
                     PyObject **out) noexcept:
        """List the tables that can say something of the key, newest first.

        Shape:   key_hash, for which each one's bucket is prefetched; 0: for none.
        Returns: how many; -1: one of them isn't open.
        """
        cdef uint32_t i, room = self.level0.count
        cdef uint32_t behind = room
        cdef int count = 0
        cdef int64_t found
        # The largest tables first, which most likely have the key: their lines take the longest.
        for i in range(self.run_count):
            found = (<TableRun>self.run_at[i]).find(key, key_bytes)
            if found >= 0:
                out[behind] = self._opened(<TableRun>self.run_at[i], <uint32_t>found)
                if out[behind] == NULL:
                    return -1
                if key_hash:
                    (<Table>out[behind]).prefetch(key_hash)
                behind += 1
        for i in range(room):
            if self.level0.holds(i, key, key_bytes):
                out[count] = self._opened(self.level0, i)
                if out[count] == NULL:
                    return -1
                if key_hash:
                    (<Table>out[count]).prefetch(key_hash)
                count += 1
        for i in range(room, behind):
            out[count] = out[i]
            count += 1
        return count

    cdef PyObject *_opened(self, TableRun run, uint32_t index) noexcept:
        if run.places[index].table == NULL:
            self.wanted_run, self.wanted_index = run, index
        return run.places[index].table

    def open_tables(self):
        """Return all tables in the order of page.tables, opened now if they were not."""
        return [run.table(i) for run in [self.level0, *self.runs] for i in range(run.count)]

    cdef int open_wanted(self) except -1:
        """Open the table for want of which a lookup returned NOT_OPEN.

        Not within the lookup: opening runs Python code, and another thread may read meanwhile,
        with this view's candidates and under the slot that plain reads share.
        """
        cdef TableRun run = self.wanted_run
        cdef uint32_t index = self.wanted_index
        if run is not None:
            run.at(index)
        return 0

    # Range tombstones

    cdef bint ranges_stale(self) noexcept:
        cdef int i
        for i in range(self.memtable_count):
            if (<Memtable>self.memtable_at[i]).range_count() > self.ranges_held[i] + RANGE_TAIL_MAX:
                return True
        return False

    def refresh_ranges(self):
        """Fragment the range tombstones that have come since the last time."""
        cdef int i
        cdef Memtable memtable
        for i in range(self.memtable_count):
            memtable = <Memtable>self.memtable_at[i]
            if memtable.range_count() > self.ranges_held[i]:
                found = memtable.range_tombstones()
                self.ranges[i] = RangeTombstones(found)
                self.ranges_held[i] = <uint32_t>len(found)

    cdef uint64_t covering(self, int i, const uint8_t *key, uint32_t key_bytes,
                           uint64_t snapshot_seq) except? 1:
        """Return the newest range tombstone <= snapshot of memtable i over the key, 0 if none."""
        cdef Memtable memtable = <Memtable>self.memtable_at[i]
        cdef uint64_t seq
        seq = memtable.covering_tail(key, key_bytes, snapshot_seq, self.ranges_held[i])
        if seq == 0 and self.ranges_held[i]:
            seq = (<RangeTombstones>self.ranges[i]).covering(key, key_bytes, snapshot_seq)
        return seq

    # Points

    cdef bint _holds_any(self, int i) noexcept:
        """Whether memtable i holds anything that a sequence read before can see.

        Relaxed: the writer counts before it releases `visible_seq`, which the caller acquired.
        """
        if not self.filled[i]:
            self.filled[i] = (<Memtable>self.memtable_at[i]).holds_any()
        return self.filled[i]

    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes,
                    uint64_t snapshot_seq, Hit *out) except -1:
        """Find the key's newest version at the snapshot.

        Sources are ordered in time: what a source says of a key, older ones can't change. So the
        first version found decides, together with the range tombstones met until then.
        """
        cdef Probe probe
        cdef int found
        probe.key, probe.key_bytes = key, key_bytes
        if self.aim(&probe) == NOT_OPEN:
            return NOT_OPEN
        found = self.find(&probe, snapshot_seq)
        if found:
            out[0] = probe.hit
        return found

    cdef int aim(self, Probe *probe) noexcept:
        """Choose the tables that may hold a key, and prefetch what `find` looks at first.

        Shape:   probe with key and key_bytes set.
        """
        cdef int i, count
        probe.hash = hash_bytes(probe.key, probe.key_bytes)
        for i in range(self.memtable_count):
            if self._holds_any(i):
                (<Memtable>self.memtable_at[i]).prefetch(probe.hash)
        count = self._choose(probe.key, probe.key_bytes, probe.hash, self.candidates)
        if count < 0:
            return NOT_OPEN
        probe.table_count = <uint32_t>count
        return 0

    cdef int find(self, Probe *probe, uint64_t snapshot_seq) except -1:
        """Look up what the last `aim` was for, under the GIL since then; returns found or not."""
        cdef uint32_t i
        if probe.table_count > 1:
            # What the newer ones are asked meanwhile costs nothing.
            (<Table>self.candidates[probe.table_count - 1]).prefetch_entry(probe.hash)
        self._ask_memtables(probe, snapshot_seq)
        for i in range(probe.table_count):
            if probe.decided:
                break
            self._ask_table(probe, self.candidates[i], snapshot_seq)
        return probe.found

    cdef int _ask_memtables(self, Probe *probe, uint64_t snapshot_seq) except -1:
        cdef int i
        cdef Memtable memtable
        probe.covered = 0
        probe.decided = probe.found = False
        for i in range(self.memtable_count):
            if not self._holds_any(i):
                continue
            memtable = <Memtable>self.memtable_at[i]
            if memtable.range_count():
                probe.covered = self.covering(i, probe.key, probe.key_bytes, snapshot_seq)
            if memtable.lookup(probe.key, probe.key_bytes, probe.hash, snapshot_seq, &probe.hit):
                probe.found = (probe.hit.kind != KIND_DELETE and probe.hit.seq > probe.covered)
                probe.decided = True
                return 0
            if probe.covered:
                probe.decided = True
                return 0
        return 0

    cdef int _ask_table(self, Probe *probe, PyObject *asked, uint64_t snapshot_seq) except -1:
        cdef Table table = <Table>asked
        if table.has_tombstones:
            probe.covered = table.covering_seq(probe.key, probe.key_bytes, snapshot_seq)
        if table.lookup(probe.key, probe.key_bytes, probe.hash, snapshot_seq, &probe.hit):
            # An entry of which no snapshot needs the sequence has 0.
            probe.found = probe.hit.kind != KIND_DELETE and probe.hit.seq >= probe.covered
            probe.decided = True
        elif probe.covered:
            probe.decided = True
        return 0

    cdef int lookup_window(self, Probe *probes, uint32_t count, uint64_t snapshot_seq) except -1:
        """Look up keys in lockstep: each stage prefetches for all what the next one touches.

        Shape:   probes with key and key_bytes set, at most LOOKUP_WINDOW.
        Table by table, newest first, and of each only for keys not decided yet: to prefetch
        every table's lines at once pushes them out before they are used.
        """
        cdef uint32_t i, rank, left = count
        cdef int m, chosen
        cdef Probe *probe
        cdef PyObject **tables
        for i in range(count):
            probe = &probes[i]
            probe.hash = hash_bytes(probe.key, probe.key_bytes)
            for m in range(self.memtable_count):
                if self._holds_any(m):
                    (<Memtable>self.memtable_at[m]).prefetch(probe.hash)
            tables = self.candidates + i * self.candidate_max
            chosen = self._choose(probe.key, probe.key_bytes, 0, tables)
            if chosen < 0:
                return NOT_OPEN
            probe.table_count = <uint32_t>chosen
            if probe.table_count:
                (<Table>tables[0]).prefetch(probe.hash)
        for i in range(count):
            self._ask_memtables(&probes[i], snapshot_seq)
            left -= probes[i].decided or probes[i].table_count == 0
        rank = 0
        while left:
            for i in range(count):
                if not probes[i].decided and rank < probes[i].table_count:
                    tables = self.candidates + i * self.candidate_max
                    (<Table>tables[rank]).prefetch_entry(probes[i].hash)
            for i in range(count):
                probe = &probes[i]
                if probe.decided or rank >= probe.table_count:
                    continue
                tables = self.candidates + i * self.candidate_max
                self._ask_table(probe, tables[rank], snapshot_seq)
                if probe.decided or rank + 1 == probe.table_count:
                    left -= 1
                else:
                    (<Table>tables[rank + 1]).prefetch(probe.hash)
            rank += 1
        return 0

    # Ranges

    cdef int collect(self, bytes first, bytes last, uint64_t snapshot_seq, list sources,
                     list found) except -1:
        """Append the sources and range tombstones of what reaches into [first, last), for a scan.

        Shape:   stored keys; last None for no bound.
        """
        cdef uint32_t i, begin, end
        cdef int m
        cdef TableRun run
        cdef Table table
        for m in range(self.memtable_count):
            if (<Memtable>self.memtable_at[m]).range_count() > self.ranges_held[m]:
                self.refresh_ranges()
            if self._holds_any(m):
                sources.append((<Memtable>self.memtable_at[m]).source(snapshot_seq))
            if self.ranges_held[m]:
                found.append(self.ranges[m])
        run = self.level0
        for i in range(run.count):
            if run.reaches_into(i, first, last):
                table = <Table>run.at(i)
                sources.append(table.source_at(snapshot_seq, False))
                if table.has_tombstones:
                    found.append(table.tombstones)
        for i in range(self.run_count):
            run = <TableRun>self.run_at[i]
            begin = run.first_reaching(<const uint8_t *>first, <uint32_t>len(first))
            end = run.count
            if last is not None:
                end = run.count_below(<const uint8_t *>last, <uint32_t>len(last))
            if begin + 1 == end:
                sources.append((<Table>run.at(begin)).source_at(snapshot_seq, False))
            elif begin < end:
                sources.append(Level(run, snapshot_seq))
            while run.range_count and begin < end:
                if run.places[begin].has_ranges:
                    found.append((<Table>run.at(begin)).tombstones)
                begin += 1
        return 0

    def keys(self, bytes first not None, bytes last, uint64_t snapshot_seq, uint64_t now_us):
        """Return the stored keys of [first, last) that are live at a snapshot; for few of them."""
        cdef list sources = [], found = []
        self.collect(first, last, snapshot_seq, sources, found)
        if not sources:
            return []
        scan = Scan(sources, found, prefix_bytes=0, start=first, end=last, reverse=False,
                    limit=None, keys_only=True, snapshot_seq=snapshot_seq, now_us=now_us)
        keys = []
        while rows := scan.fetch(1024):
            keys += rows
        return keys
