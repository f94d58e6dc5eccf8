# cython: language_level=3, boundscheck=False, wraparound=False
"""Show many sources as one, and hand the live rows of a range to Python.

A binary heap of the sources, the one to show at its root; ties between keys go to the highest
sequence. At a snapshot, sources that stand on the key being shown are moved past it at once,
so that a step moves one source. A change of direction positions every source anew.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy
from ferrisdb.kernel.cpu cimport compare
from ferrisdb.kernel.source cimport KIND_DELETE, Source
from ferrisdb.kernel.tableformat cimport key_head
from ferrisdb.kernel.tombstones cimport RangeTombstones

from ferrisdb.errors import ClosedError, UsageError

cdef enum:
    LONG_FETCH_ROWS = 1024      # from here on a fetch releases the GIL


cdef int refuse_broken() except -1 with gil:
    raise ClosedError("this scan failed earlier: start a new one")


cdef int refuse_backward() except -1 with gil:
    raise UsageError("a source of all versions goes forward only")


cdef int refuse_short_key() except -1 with gil:
    raise UsageError("the range holds a key without the prefix to cut off")


cdef int out_of_memory() except -1 with gil:
    raise MemoryError


@cython.final
cdef class Merge(Source):
    """The entries of several sources in one order; like them, forward only with all versions."""

    def __cinit__(self, list sources not None):
        """Merge `sources`, positioned nowhere yet; nobody else may move them from now on.

        Shape:  all at one snapshot, or all with all versions; equal (key, sequence) pairs are
                shown from the earlier source first.
        """
        cdef Source one
        self.sources = list(sources)
        self.source_count = <uint32_t>len(self.sources)
        self.source = <PyObject **>calloc(self.source_count + 1, sizeof(PyObject *))
        self.heads = <uint64_t *>calloc(self.source_count + 1, sizeof(uint64_t))
        self.heap = <uint32_t *>calloc(self.source_count + 1, sizeof(uint32_t))
        if self.source == NULL or self.heads == NULL or self.heap == NULL:
            raise MemoryError
        for i in range(self.source_count):
            one = self.sources[i]
            if i == 0:
                self.snapshot_seq, self.all_versions = one.snapshot_seq, one.all_versions
            elif (one.all_versions != self.all_versions
                  or (not one.all_versions and one.snapshot_seq != self.snapshot_seq)):
                raise UsageError("merged sources show one snapshot, or all versions, all of them")
            self.source[i] = <PyObject *>one

    def __dealloc__(self):
        free(self.source)
        free(self.heads)
        free(self.heap)
        free(self.saved)

    cdef int _begin(self) except -1 nogil:
        # Broken until the move has ended: a source that raises leaves the others out of step.
        if self.broken:
            return refuse_broken()
        self.broken = True
        self.valid = False
        return 0

    cdef int seek_first(self) except -1 nogil:
        cdef uint32_t i
        self._begin()
        for i in range(self.source_count):
            (<Source>self.source[i]).seek_first()
        return self._heapify(False)

    cdef int seek_last(self) except -1 nogil:
        cdef uint32_t i
        self._begin()
        for i in range(self.source_count):
            (<Source>self.source[i]).seek_last()
        return self._heapify(True)

    cdef int seek(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef uint32_t i
        self._begin()
        for i in range(self.source_count):
            (<Source>self.source[i]).seek(key, key_bytes)
        return self._heapify(False)

    cdef int seek_before(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef uint32_t i
        self._begin()
        for i in range(self.source_count):
            (<Source>self.source[i]).seek_before(key, key_bytes)
        return self._heapify(True)

    cdef int step(self) except -1 nogil:
        cdef uint32_t i
        if not self.backward:
            self._begin()
            self._advance(0)
            return self._settle()
        self._save_key()
        self._begin()
        for i in range(self.source_count):
            (<Source>self.source[i]).seek(self.saved, self.key_bytes)
            if ((<Source>self.source[i]).valid
                    and compare((<Source>self.source[i]).key, (<Source>self.source[i]).key_bytes,
                                self.saved, self.key_bytes) == 0):
                (<Source>self.source[i]).step()
        return self._heapify(False)

    cdef int step_back(self) except -1 nogil:
        cdef uint32_t i
        if self.all_versions:
            return refuse_backward()
        if self.backward:
            self._begin()
            self._advance(0)
            return self._settle()
        self._save_key()
        self._begin()
        for i in range(self.source_count):
            (<Source>self.source[i]).seek_before(self.saved, self.key_bytes)
        return self._heapify(True)

    cdef int _save_key(self) except -1 nogil:
        cdef uint8_t *grown
        if self.key_bytes > self.saved_room:
            grown = <uint8_t *>realloc(self.saved, 2 * <uint64_t>self.key_bytes)
            if grown == NULL:
                return out_of_memory()
            self.saved, self.saved_room = grown, 2 * <uint64_t>self.key_bytes
        if self.key_bytes:
            memcpy(self.saved, self.key, self.key_bytes)
        return 0

    cdef int _load(self, uint32_t index) noexcept nogil:
        self.heads[index] = key_head((<Source>self.source[index]).key,
                                     (<Source>self.source[index]).key_bytes)
        return 0

    cdef bint _before(self, uint32_t a, uint32_t b) noexcept nogil:
        """Whether source a is shown before source b."""
        cdef int order
        if self.heads[a] != self.heads[b]:
            return (self.heads[a] > self.heads[b]) == self.backward
        order = compare((<Source>self.source[a]).key, (<Source>self.source[a]).key_bytes,
                        (<Source>self.source[b]).key, (<Source>self.source[b]).key_bytes)
        if order:
            return (order > 0) == self.backward
        if (<Source>self.source[a]).hit.seq != (<Source>self.source[b]).hit.seq:
            return (<Source>self.source[a]).hit.seq > (<Source>self.source[b]).hit.seq
        return a < b

    cdef int _sift(self, uint32_t root) noexcept nogil:
        cdef uint32_t child, index = self.heap[root]
        while True:
            child = 2 * root + 1
            if child >= self.heap_count:
                break
            if (child + 1 < self.heap_count
                    and self._before(self.heap[child + 1], self.heap[child])):
                child += 1
            if not self._before(self.heap[child], index):
                break
            self.heap[root] = self.heap[child]
            root = child
        self.heap[root] = index
        return 0

    cdef int _heapify(self, bint backward) except -1 nogil:
        cdef uint32_t i
        self.backward = backward
        self.heap_count = 0
        for i in range(self.source_count):
            if (<Source>self.source[i]).valid:
                self._load(i)
                self.heap[self.heap_count] = i
                self.heap_count += 1
        i = self.heap_count // 2
        while i:
            i -= 1
            self._sift(i)
        return self._settle()

    cdef int _advance(self, uint32_t place) except -1 nogil:
        """Move the source at a place of the heap on, and put it or the last one in its place."""
        cdef uint32_t index
        if place >= self.heap_count:
            return 0
        index = self.heap[place]
        if self.backward:
            (<Source>self.source[index]).step_back()
        else:
            (<Source>self.source[index]).step()
        if (<Source>self.source[index]).valid:
            self._load(index)
        else:
            self.heap_count -= 1
            self.heap[place] = self.heap[self.heap_count]
            if place == self.heap_count:
                return 0
            # The last leaf may belong above its new place only if it is not below the parent's
            # subtree; places are 0 to 2, and their parent is the root, which comes first anyway.
        return self._sift(place)

    cdef int _settle(self) except -1 nogil:
        """Show the root's entry; move others past the same key, unless all versions are shown."""
        cdef uint32_t top, second
        while self.heap_count > 1 and not self.all_versions:
            top = self.heap[0]
            second = 1
            if self.heap_count > 2 and self._before(self.heap[2], self.heap[1]):
                second = 2
            if (self.heads[top] != self.heads[self.heap[second]]
                    or compare((<Source>self.source[top]).key,
                               (<Source>self.source[top]).key_bytes,
                               (<Source>self.source[self.heap[second]]).key,
                               (<Source>self.source[self.heap[second]]).key_bytes) != 0):
                break
            self._advance(second)
        self.broken = False
        if self.heap_count == 0:
            return 0
        top = self.heap[0]
        self.key = (<Source>self.source[top]).key
        self.key_bytes = (<Source>self.source[top]).key_bytes
        self.lasting = (<Source>self.source[top]).lasting
        self.hit = (<Source>self.source[top]).hit
        self.valid = True
        return 0


@cython.final
cdef class Scan:
    """The live rows of a range of stored keys at a snapshot."""

    def __init__(self, list sources not None, list tombstones not None, *, uint32_t prefix_bytes,
                 bytes start not None, bytes end, bint reverse, limit, bint keys_only,
                 uint64_t snapshot_seq, uint64_t now_us):
        """Scan [start, end) of the merged `sources`, hidden by `tombstones`, from either side.

        Shape:  start and end are stored keys, end None for no bound; every key in the range is
                at least `prefix_bytes` long, and these are cut off; limit None for no limit.
        Owner:  one thread, which keeps what the sources read pinned.
        """
        if self.source is not None:
            raise UsageError("a Scan scans once")
        if limit is not None and limit < 0:
            raise UsageError(f"a limit is 0 or more, not {limit}")
        self.prefix_bytes = prefix_bytes
        self.reverse, self.keys_only = reverse, keys_only
        self.snapshot_seq, self.now_us = snapshot_seq, now_us
        self.left = -1 if limit is None else min(limit, (1 << 62))
        self.begin(sources, tombstones, start, end)

    cdef int begin(self, list sources, list tombstones, bytes start, bytes end) except -1:
        cdef RangeTombstones one
        cdef Py_ssize_t i
        self.row_room = BATCH_ROWS if self.left < 0 else min(self.left, <int64_t>BATCH_ROWS)
        self.rows = <Row *>malloc((self.row_room + 1) * sizeof(Row))
        if self.rows == NULL:
            raise MemoryError
        self.sources = sources
        self.tombstones = tombstones
        self.source = <Source?>sources[0] if len(sources) == 1 else Merge(sources)
        if len(tombstones):
            self.ranges = <PyObject **>calloc(len(tombstones), sizeof(PyObject *))
            if self.ranges == NULL:
                raise MemoryError
            for i in range(len(tombstones)):
                one = tombstones[i]
                if one.fragment_count:
                    self.ranges[self.range_count] = <PyObject *>one
                    self.range_count += 1
        self.start, self.end = start, end
        self.start_at, self.start_bytes = start, len(start)
        self.bounded = end is not None
        if self.bounded:
            self.end_at, self.end_bytes = end, len(end)
        return 0

    def __dealloc__(self):
        free(self.ranges)
        free(self.rows)
        free(self.arena)

    cdef bint _in_range(self) noexcept nogil:
        if self.reverse:
            return compare(self.source.key, self.source.key_bytes,
                           self.start_at, self.start_bytes) >= 0
        return not self.bounded or compare(self.source.key, self.source.key_bytes,
                                           self.end_at, self.end_bytes) < 0

    cdef bint _live(self) noexcept nogil:
        cdef uint32_t i
        if self.source.hit.kind == KIND_DELETE:
            return False
        if self.source.hit.expires_us and self.source.hit.expires_us <= self.now_us:
            return False
        for i in range(self.range_count):
            if (<RangeTombstones>self.ranges[i]).covering(
                    self.source.key, self.source.key_bytes,
                    self.snapshot_seq) > self.source.hit.seq:
                return False
        return True

    cdef int _keep(self, Row *row) except -1 nogil:
        cdef uint64_t need
        cdef uint8_t *grown
        if self.source.key_bytes < self.prefix_bytes:
            return refuse_short_key()
        row.value, row.value_bytes = self.source.hit.value, self.source.hit.value_bytes
        row.expires_us = self.source.hit.expires_us
        row.key, row.key_bytes = self.source.key, self.source.key_bytes
        if self.source.lasting:
            return 0
        need = self.arena_used + row.key_bytes
        if need > self.arena_room:
            grown = <uint8_t *>realloc(self.arena, 2 * need + 2048)
            if grown == NULL:
                return out_of_memory()
            self.arena, self.arena_room = grown, 2 * need + 2048
        row.key, row.place = NULL, self.arena_used
        if row.key_bytes:
            memcpy(self.arena + row.place, self.source.key, row.key_bytes)
        self.arena_used = need
        return 0

    cdef inline bytes key_of(self, const Row *row):
        """Return a row's key without the prefix."""
        cdef const uint8_t *key = row.key if row.key != NULL else self.arena + row.place
        return PyBytes_FromStringAndSize(<const char *>key + self.prefix_bytes,
                                         row.key_bytes - self.prefix_bytes)

    cdef int64_t _gather(self, int64_t rows_max, bint keep) except -1 nogil:
        """Pass over up to `rows_max` live rows, keeping where they are; fewer: the range ended."""
        cdef int64_t count = 0
        if self.broken:
            return refuse_broken()
        if self.left >= 0:
            rows_max = min(rows_max, self.left)
        self.arena_used = 0
        self.broken = True
        if not self.started:
            self.started = True
            if not self.reverse:
                self.source.seek(self.start_at, <uint32_t>self.start_bytes)
            elif self.bounded:
                self.source.seek_before(self.end_at, <uint32_t>self.end_bytes)
            else:
                self.source.seek_last()
        while count < rows_max:
            if self.behind:
                if self.reverse:
                    self.source.step_back()
                else:
                    self.source.step()
            if not self.source.valid or not self._in_range():
                self.done = True
                break
            self.behind = True
            if self._live():
                if keep:
                    self._keep(&self.rows[count])
                count += 1
        if self.left >= 0:
            self.left -= count
            self.done = self.done or self.left == 0
        self.broken = False
        return count

    def fetch(self, int64_t rows_max):
        """Return up to `rows_max` next rows: (key, value) tuples, or keys with `keys_only`.

        Returns: fewer than asked for only at the end; an empty list: there are no more.
        Raises:  CorruptionError, StorageError, and then ClosedError ever after.
        Cost:    a fetch of 1,024 rows and more releases the GIL while it reads.
        """
        cdef list out = []
        cdef int64_t count, i, batch
        cdef bint long_fetch = rows_max >= LONG_FETCH_ROWS
        cdef Row *row
        cdef bytes key, value
        while not self.done and rows_max > 0:
            batch = min(rows_max, self.row_room)
            if long_fetch:
                with nogil:
                    count = self._gather(batch, True)
            else:
                count = self._gather(batch, True)
            for i in range(count):
                row = &self.rows[i]
                key = self.key_of(row)
                if self.keys_only:
                    out.append(key)
                else:
                    value = PyBytes_FromStringAndSize(<const char *>row.value, row.value_bytes)
                    out.append((key, value))
            rows_max -= count
        if self.broken:
            refuse_broken()
        return out

    def count(self, int64_t rows_max):
        """Pass over up to `rows_max` next rows and return how many there were; 0: no more."""
        cdef int64_t found
        if self.done:
            return 0
        with nogil:
            found = self._gather(rows_max, False)
        return found


@cython.final
cdef class Cursor:
    """Any source, moved from Python: for tools and tests, not for speed."""

    def __init__(self, Source source not None):
        self.source = source

    def seek_first(self):
        """Go to the first entry."""
        self.source.seek_first()

    def seek_last(self):
        """Go to the last entry."""
        self.source.seek_last()

    def seek(self, bytes key not None):
        """Go to the first entry with a key at or above `key`."""
        self.source.seek(<const uint8_t *>key, <uint32_t>len(key))

    def seek_before(self, bytes key not None):
        """Go to the last entry with a key below `key`."""
        self.source.seek_before(<const uint8_t *>key, <uint32_t>len(key))

    def step(self):
        """Go to the next entry; UsageError where there is none to go on from."""
        if not self.source.valid:
            raise UsageError("the cursor stands on no entry")
        self.source.step()

    def step_back(self):
        """Go to the entry before; UsageError where there is none to go on from."""
        if not self.source.valid:
            raise UsageError("the cursor stands on no entry")
        self.source.step_back()

    def entry(self):
        """Return (key, seq, kind, expires_us, value) where the cursor stands, or None."""
        cdef Source source = self.source
        if not source.valid:
            return None
        return (PyBytes_FromStringAndSize(<const char *>source.key, source.key_bytes),
                source.hit.seq, source.hit.kind, source.hit.expires_us,
                PyBytes_FromStringAndSize(<const char *>source.hit.value, source.hit.value_bytes))
