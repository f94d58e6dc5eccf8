# cython: language_level=3, boundscheck=False, wraparound=False
"""Give memtables, tables and merges one face: entries in key order at a snapshot."""

from libc.stdint cimport uint8_t, uint32_t


cdef class Source:
    """A position among entries in key order; subclasses move it.

    With `all_versions` every version is shown, key ascending and sequence descending, forward
    only. Otherwise each key is shown once, with its newest version at or below `snapshot_seq`
    (tombstones included), in both directions, and keys without such a version are not shown.
    """

    cdef int seek_first(self) except -1 nogil:
        self.valid = False
        return 0

    cdef int seek_last(self) except -1 nogil:
        self.valid = False
        return 0

    cdef int seek(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        self.valid = False
        return 0

    cdef int seek_before(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        self.valid = False
        return 0

    cdef int step(self) except -1 nogil:
        self.valid = False
        return 0

    cdef int step_back(self) except -1 nogil:
        self.valid = False
        return 0
