# One key space of an attached database: reads and single writes.
from libc.stdint cimport uint64_t

from ferrisdb.kernel.client cimport Attachment, Pin

cdef class Space:
    cdef readonly Attachment attached
    cdef readonly bytes prefix
    cdef bytes behind           # the first stored key behind all of the key space; None: no bound
    cdef readonly uint64_t keyspace_id  # 0: the default one, which always lives
    # What the catalogue's words said when this key space was last seen to live.
    cdef uint64_t seen_generation
    cdef uint64_t seen_keyspaces
    cdef int look(self) except -1
    cdef int enter(self) except -1
