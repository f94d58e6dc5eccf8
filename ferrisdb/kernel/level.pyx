# cython: language_level=3, boundscheck=False, wraparound=False
"""Show the tables of one level, which do not overlap, one behind the other.

At most one table is being read at a time, so that a scan or a compaction over a level of a
thousand tables costs no more than one over a single table.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ferrisdb.kernel.run cimport TableRun
from ferrisdb.kernel.source cimport Source
from ferrisdb.kernel.table cimport Table


@cython.final
cdef class Level(Source):
    """The entries of tables in key order."""

    def __cinit__(self, TableRun run not None, uint64_t snapshot_seq, bint all_versions=False):
        """Begin before the first entry of a run whose tables don't overlap."""
        self.run = run
        self.snapshot_seq = snapshot_seq
        self.all_versions = all_versions

    cdef int _open(self, uint32_t index) except -1 with gil:
        if self.inner is None or index != self.index:
            self.inner = None
            self.inner = (<Table>self.run.at(index)).source_at(
                self.snapshot_seq, self.all_versions)
            self.index = index
        return 0

    cdef int _take(self) except -1 nogil:
        self.key, self.key_bytes = self.inner.key, self.inner.key_bytes
        self.lasting = self.inner.lasting
        self.hit = self.inner.hit
        self.valid = True
        return 0

    cdef int _forward(self) except -1 nogil:
        """Show where the inner source stands, or the first entry of a table behind it."""
        while not self.inner.valid:
            if self.index + 1 >= self.run.count:
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
        if self.run.count == 0:
            return 0
        self._open(0)
        self.inner.seek_first()
        return self._forward()

    cdef int seek_last(self) except -1 nogil:
        self.valid = False
        if self.run.count == 0:
            return 0
        self._open(self.run.count - 1)
        self.inner.seek_last()
        return self._backward()

    cdef int seek(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef uint32_t index = self.run.first_reaching(key, key_bytes)
        self.valid = False
        if index == self.run.count:
            return 0
        self._open(index)
        self.inner.seek(key, key_bytes)
        return self._forward()

    cdef int seek_before(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef uint32_t count = self.run.count_below(key, key_bytes)
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
