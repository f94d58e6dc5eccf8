# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Look a key up in the memtables and tables of one version, newest first."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from ferrisdb.kernel.cpu cimport hash_bytes
from ferrisdb.kernel.memtable cimport Memtable
from ferrisdb.kernel.source cimport KIND_DELETE, Hit
from ferrisdb.kernel.table cimport Table
from ferrisdb.kernel.tombstones cimport RangeTombstones

cdef enum:
    RANGE_TAIL_MAX = 16         # newest range tombstones of a memtable that are searched one by one


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

    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes, uint64_t snapshot_seq,
                    Hit *out) except -1:
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
