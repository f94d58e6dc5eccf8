# Range tombstones of one source: disjoint fragments, each with its sequences, newest first.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct Fragment:
    uint64_t start              # offsets into RangeTombstones.keys
    uint64_t end
    uint32_t start_bytes
    uint32_t end_bytes
    uint32_t unbounded          # the end is above every key
    uint32_t seq_count
    uint64_t first_seq          # index into RangeTombstones.seqs

cdef class RangeTombstones:
    cdef bytes keys
    cdef const uint8_t *key_base    # into keys, for code without the GIL
    cdef Fragment *fragment
    cdef uint64_t *seqs
    cdef readonly uint64_t fragment_count
    cdef readonly uint64_t newest_seq
    cdef readonly uint64_t oldest_seq
    # Newest sequence <= snapshot_seq of a tombstone over the key, or 0.
    cdef uint64_t covering(self, const uint8_t *key, uint32_t key_bytes,
                           uint64_t snapshot_seq) noexcept nogil
