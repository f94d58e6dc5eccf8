# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Take turns at keys that several transactions read and replace.

Optimistic transactions on one key cost each other their work: the more processes, the fewer
commits. So who loses takes a turn at the key before it tries again, and others who lose meanwhile
sleep until the turn ends. A first attempt asks for nothing, and a turn that is used for one
transaction ends with it; who comes back again and again is given longer ones, because handing over
costs more than a commit.

A turn is advice: the coordinator judges every commit, whoever's turn it is. It ends by itself, so
that nobody waits for a dead process.

Word: u64 in the doorbell, chosen by the key's hash; 0: free. Bits 48-63 the owner, bits 0-47 when
      the turn ends, in us of the monotonic clock. Owner: who takes it by compare-and-swap (acquire
      and release, though nothing is read through it). Whatever else stands in it is free as soon
      as it claims to last for longer than a turn may.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.cpu cimport load64_relaxed, monotonic_ns, swap64

cdef enum:
    TURN_US = 1000              # the first one; each one soon after the last is twice as long
    STREAK_MAX = 4              # up to 16 ms
    LONGEST_US = 200_000        # however long the transactions are
    AGAIN_US = 10_000           # a turn that is wanted so soon after the last belongs to its streak
    END_BITS = 48


cdef class Turn:
    """The turns of one handle.

    Shape:   me, a number from 1 to 65,535; two with the same only believe that it is their turn.
    Owner:   its process, under the GIL.
    """

    def __init__(self, uint64_t me):
        self.me = (me & 0xFFFF or 1) << END_BITS

    cdef int64_t take(self, uint8_t *doorbell, uint64_t key_hash, int64_t least_us,
                      bint first) noexcept:
        """Take the turn at a key if it is free.

        Shape:   least_us, how long a transaction takes; first, whether it is asked for the first
                 time since that one lost.
        Returns: 0, it is ours; else how many us the present one lasts.
        """
        cdef uint64_t seen, end_mask = (<uint64_t>1 << END_BITS) - 1
        cdef uint32_t index = <uint32_t>(key_hash % c.TURN_COUNT)
        cdef uint8_t *at = doorbell + c.DOORBELL_TURNS + index * c.TURN_BYTES
        cdef int64_t now_us = monotonic_ns() // 1000, left_us, turn_us
        if self.word and (index != self.index or <int64_t>(self.word & end_mask) <= now_us):
            self._end(doorbell, now_us)
        if first and not self.word:
            if index == self.index and now_us - self.ended_us < AGAIN_US:
                self.streak = min(self.streak + 1, <uint32_t>STREAK_MAX)
            else:
                self.streak = 0
            self.index = index
        turn_us = min(max(<int64_t>TURN_US << self.streak, 2 * least_us), <int64_t>LONGEST_US)
        while True:
            seen = load64_relaxed(at)
            left_us = <int64_t>(seen & end_mask) - now_us
            if 0 < left_us <= LONGEST_US:
                if seen == self.word:
                    return 0
                return left_us
            self.word = self.me | (<uint64_t>(now_us + turn_us) & end_mask)
            if swap64(at, seen, self.word):
                return 0
            self.word = 0

    cdef void won(self, uint8_t *doorbell) noexcept:
        """Note a commit: the turn ends unless its owner has come back again and again."""
        cdef int64_t now_us = monotonic_ns() // 1000
        cdef uint64_t end_mask = (<uint64_t>1 << END_BITS) - 1
        if self.streak == 0 or <int64_t>(self.word & end_mask) <= now_us:
            self._end(doorbell, now_us)

    cdef void _end(self, uint8_t *doorbell, int64_t now_us) noexcept:
        cdef uint64_t end_mask = (<uint64_t>1 << END_BITS) - 1
        # Not ours any more: then it has ended, and may be another's.
        swap64(doorbell + c.DOORBELL_TURNS + self.index * c.TURN_BYTES, self.word, 0)
        self.ended_us = min(now_us, <int64_t>(self.word & end_mask))
        self.word = 0
