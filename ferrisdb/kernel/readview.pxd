# One version's memtables and tables, newest first.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.run cimport TableRun
from ferrisdb.kernel.source cimport Hit

cdef enum:
    NOT_OPEN = 2
    LOOKUP_WINDOW = 16          # keys of a multi_get whose cache misses overlap

# A key of a window on its way through the sources.
cdef struct Probe:
    const uint8_t *key
    uint64_t hash
    uint64_t covered            # newest range tombstone over the key in the sources passed
    uint32_t key_bytes
    uint32_t table_count        # tables that may hold it, in ReadView.candidates
    bint decided                # no older source can change what `hit` and `found` say
    bint found
    Hit hit

cdef class ReadView:
    # One version: its memtables and tables, newest first.
    cdef readonly uint64_t epoch
    cdef readonly list memtables
    cdef readonly object page
    cdef PyObject **memtable_at
    cdef bint *filled           # memtables that have been seen to hold something
    cdef int memtable_count
    cdef TableRun level0
    cdef readonly list runs     # of the other levels that have tables
    cdef PyObject **run_at      # borrowed from `runs`
    cdef uint32_t run_count
    cdef uint32_t candidate_max
    cdef PyObject **candidates  # candidate_max for each key of a window; under the GIL
    # Range tombstones of each memtable: how many of its oldest are in `ranges`.
    cdef list ranges
    cdef uint32_t *ranges_held
    # Newest version at the snapshot. 1: found, live unless expired; 0: absent; NOT_OPEN: a table
    # must be opened first, by `open_wanted`, and the lookup done again.
    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes,
                    uint64_t snapshot_seq, Hit *out) except -1
    # `lookup` in two steps. The first needs no pin: it looks at nothing shared but to prefetch it.
    # 0, or NOT_OPEN: then there is no second step.
    cdef int aim(self, Probe *probe) noexcept
    cdef int find(self, Probe *probe, uint64_t snapshot_seq) except -1
    # The same of up to LOOKUP_WINDOW keys, their cache misses overlapped; 0 or NOT_OPEN.
    cdef int lookup_window(self, Probe *probes, uint32_t count, uint64_t snapshot_seq) except -1
    cdef TableRun wanted_run    # the table that NOT_OPEN is about
    cdef uint32_t wanted_index
    cdef int open_wanted(self) except -1
    cdef PyObject *_opened(self, TableRun run, uint32_t index) noexcept
    cdef int _place_tables(self, refs, opener, tables) except -1
    cdef int _choose(self, const uint8_t *key, uint32_t key_bytes, uint64_t key_hash,
                     PyObject **out) noexcept
    cdef bint _holds_any(self, int i) noexcept
    cdef int _ask_memtables(self, Probe *probe, uint64_t snapshot_seq) except -1
    cdef int _ask_table(self, Probe *probe, PyObject *table, uint64_t snapshot_seq) except -1
    cdef uint64_t covering(self, int i, const uint8_t *key, uint32_t key_bytes,
                           uint64_t snapshot_seq) except? 1
    cdef bint ranges_stale(self) noexcept
    cdef int collect(self, bytes first, bytes last, uint64_t snapshot_seq, list sources,
                     list found) except -1
