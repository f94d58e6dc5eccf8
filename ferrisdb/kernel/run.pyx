# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Find the tables of a level that can hold a key, and open a table when it is first touched.

A level's tables are known by their bounds from the version alone; a database of a thousand tables
is opened as fast as one of two. Source of the name: a sorted run, O'Neil et al., "The log-
structured merge-tree", 1996.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from ferrisdb.kernel.cpu cimport compare, store64_release
from ferrisdb.kernel.table cimport Table
from ferrisdb.kernel.tableformat cimport key_head

from ferrisdb.errors import UsageError


cdef inline uint32_t shared_bytes(const uint8_t *a, uint32_t n, const uint8_t *b) noexcept:
    cdef uint32_t i = 0
    while i < n and a[i] == b[i]:
        i += 1
    return i


@cython.final
cdef class TableRun:
    """Tables by their bounds: in key order and not overlapping, or (level 0) newest first.

    Shape:   refs, each with `smallest`, `largest` (stored keys that enclose every entry and range
             tombstone), `unbounded` and `has_ranges` (tombstones); `opener(ref)` returns the
             `Table`; tables, those that are open already, None for the others.
    """

    def __cinit__(self, refs, opener=None, tables=None):
        cdef uint32_t i = 0, at = 0
        cdef Place *place
        self.refs = list(refs)
        self.count = <uint32_t>len(self.refs)
        self.opener = opener
        self.tables = [None] * self.count if tables is None else list(tables)
        if len(self.tables) != self.count:
            raise UsageError("a run needs a place for each table that it names")
        self.keys = b"".join([ref.smallest + ref.largest for ref in self.refs])
        self.key_at = self.keys
        self.places = <Place *>calloc(self.count + 1, sizeof(Place))
        if not self.places:
            raise MemoryError()
        for ref, table in zip(self.refs, self.tables):
            place = &self.places[i]
            if table is not None:
                place.table = <PyObject *>(<Table?>table)
            place.smallest, place.smallest_bytes = at, <uint32_t>len(ref.smallest)
            place.largest = at + place.smallest_bytes
            place.largest_bytes = <uint32_t>len(ref.largest)
            place.unbounded = ref.unbounded
            place.has_ranges = ref.has_ranges
            self.range_count += place.has_ranges
            at += place.smallest_bytes + place.largest_bytes
            i += 1
        if self.count:
            # Ascending keys share what the first and the last of them share.
            place = &self.places[self.count - 1]
            self.shared = shared_bytes(
                self.key_at, min(self.places[0].smallest_bytes, place.smallest_bytes),
                self.key_at + place.smallest)
        for i in range(self.count):
            place = &self.places[i]
            place.head = key_head(self.key_at + place.smallest + self.shared,
                                  place.smallest_bytes - self.shared)

    def __dealloc__(self):
        free(self.places)

    cdef PyObject *_open(self, uint32_t index) except NULL with gil:
        if self.opener is None:
            raise UsageError("a run without an opener needs its tables open")
        table = <Table?>self.opener(self.refs[index])
        # To open runs Python code: another thread may have been first, and its table stays.
        if self.places[index].table == NULL:
            self.tables[index] = table
            store64_release(&self.places[index].table, <uint64_t><PyObject *>table)
        return self.places[index].table

    cdef bint _reaches(self, Place *place, const uint8_t *key, uint32_t key_bytes) noexcept nogil:
        return place.unbounded or compare(
            key, key_bytes, self.key_at + place.largest, place.largest_bytes) <= 0

    cdef bint holds(self, uint32_t index, const uint8_t *key, uint32_t key_bytes) noexcept nogil:
        cdef Place *place = &self.places[index]
        return (compare(self.key_at + place.smallest, place.smallest_bytes, key, key_bytes) <= 0
                and self._reaches(place, key, key_bytes))

    cdef uint32_t _count_to(self, const uint8_t *key, uint32_t key_bytes,
                            bint same) noexcept nogil:
        """Count the tables that begin below the key, or also those that begin at it."""
        cdef uint32_t low = 0, high = self.count, middle
        cdef Place *place
        cdef uint64_t head
        cdef int order
        if self.count == 0:
            return 0
        order = compare(key, min(key_bytes, self.shared), self.key_at, self.shared)
        if order < 0:
            return 0
        if order > 0:
            return self.count
        head = key_head(key + self.shared, key_bytes - self.shared)
        while low < high:
            middle = (low + high) >> 1
            place = &self.places[middle]
            if place.head < head:
                low = middle + 1
            elif place.head > head:
                high = middle
            elif compare(self.key_at + place.smallest, place.smallest_bytes,
                         key, key_bytes) < <int>same:
                low = middle + 1
            else:
                high = middle
        return low

    cdef uint32_t count_below(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil:
        return self._count_to(key, key_bytes, False)

    cdef int64_t find(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil:
        """Find the last table that begins at or below the key, if it reaches the key.

        The table before may end in the very same key, but then in a range tombstone's exclusive
        end: it says nothing of the key.
        """
        cdef uint32_t count = self._count_to(key, key_bytes, True)
        if count == 0 or not self._reaches(&self.places[count - 1], key, key_bytes):
            return -1
        return <int64_t>count - 1

    cdef uint32_t first_reaching(self, const uint8_t *key, uint32_t key_bytes) noexcept nogil:
        cdef uint32_t count = self._count_to(key, key_bytes, False)
        # Of the tables that begin below the key, only the last can reach it.
        if count and self._reaches(&self.places[count - 1], key, key_bytes):
            return count - 1
        return count

    cdef bint reaches_into(self, uint32_t index, bytes first, bytes last) noexcept:
        cdef Place *place = &self.places[index]
        return self._reaches(place, <const uint8_t *>first, <uint32_t>len(first)) and (
            last is None or compare(self.key_at + place.smallest, place.smallest_bytes,
                                    <const uint8_t *>last, len(last)) < 0)

    def table(self, uint32_t index):
        """Return a table, opened now if it was not."""
        if index >= self.count:
            raise IndexError(f"the run has {self.count} tables")
        return <object>self.at(index)
