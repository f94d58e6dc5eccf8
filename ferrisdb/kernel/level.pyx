# cython: language_level=3, boundscheck=False, wraparound=False
"""Show the tables of one level, which do not overlap, one behind the other.

At most one table is being read at a time, so that a scan or a compaction over a level of a
thousand tables costs no more than one over a single table.
"""

from bisect import bisect_left

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ferrisdb.kernel.source cimport Source
from ferrisdb.kernel.table cimport Table


@cython.final
cdef class Level(Source):
    """The entries of tables in key order."""

    def __cinit__(self, list tables not None, uint64_t snapshot_seq, bint all_versions=False):
        """Begin before the first entry.

        Shape:  tables by key, open.
        """
        self.tables = list(tables)
        # They enclose all entries, also where a range tombstone has no end.
        self.smallest = [(<Table?>table).properties.smallest_key for table in tables]
        self.largest = [table.properties.largest_key for table in tables]
        self.count = len(tables)
        self.index = -1
        self.snapshot_seq = snapshot_seq
        self.all_versions = all_versions

    cdef int _open(self, Py_ssize_t index) except -1 with gil:
        if index != self.index:
            self.inner = None
            self.index = -1
            self.inner = (<Table>self.tables[index]).source(self.snapshot_seq, self.all_versions)
            self.index = index
        return 0

    cdef Py_ssize_t _first_reaching(self, const uint8_t *key,
                                    uint32_t key_bytes) except -1 with gil:
        return bisect_left(self.largest, PyBytes_FromStringAndSize(<const char *>key, key_bytes))

    cdef Py_ssize_t _count_below(self, const uint8_t *key, uint32_t key_bytes) except -1 with gil:
        return bisect_left(self.smallest, PyBytes_FromStringAndSize(<const char *>key, key_bytes))

    cdef int _take(self) except -1 nogil:
        self.key, self.key_bytes = self.inner.key, self.inner.key_bytes
        self.hit = self.inner.hit
        self.valid = True
        return 0

    cdef int _forward(self) except -1 nogil:
        """Show where the inner source stands, or the first entry of a table behind it."""
        while not self.inner.valid:
            if self.index + 1 >= self.count:
                return 0
            self._open(self.index + 1)
            self.inner.seek_first()
        return self._take()

    cdef int _backward(self) except -1 nogil:
        while not self.inner.valid:
            if self.index == 0:
                return 0
            self._open(self.index - 1)
            self.inner.seek_last()
        return self._take()

    cdef int seek_first(self) except -1 nogil:
        self.valid = False
        if self.count == 0:
            return 0
        self._open(0)
        self.inner.seek_first()
        return self._forward()

    cdef int seek_last(self) except -1 nogil:
        self.valid = False
        if self.count == 0:
            return 0
        self._open(self.count - 1)
        self.inner.seek_last()
        return self._backward()

    cdef int seek(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef Py_ssize_t index = self._first_reaching(key, key_bytes)
        self.valid = False
        if index == self.count:
            return 0
        self._open(index)
        self.inner.seek(key, key_bytes)
        return self._forward()

    cdef int seek_before(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef Py_ssize_t count = self._count_below(key, key_bytes)
        self.valid = False
        if count == 0:
            return 0
        self._open(count - 1)
        self.inner.seek_before(key, key_bytes)
        return self._backward()

    cdef int step(self) except -1 nogil:
        self.valid = False
        self.inner.step()
        return self._forward()

    cdef int step_back(self) except -1 nogil:
        self.valid = False
        self.inner.step_back()
        return self._backward()
