# Whose turn it is at a key that several transactions replace.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef class Turn:
    cdef uint64_t me            # in its place in the word, never 0
    cdef uint64_t word          # as it was stored; 0: it is not our turn
    cdef uint32_t index
    cdef uint32_t streak        # turns at this key, one soon after the other
    cdef int64_t ended_us
    cdef int64_t take(self, uint8_t *doorbell, uint64_t key_hash, int64_t least_us,
                      bint first) noexcept
    cdef void won(self, uint8_t *doorbell) noexcept
    cdef void _end(self, uint8_t *doorbell, int64_t now_us) noexcept
