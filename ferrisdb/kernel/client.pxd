# An attached process: reads in place; its writing half is ring.pxd.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.readview cimport Probe, ReadView
from ferrisdb.kernel.ring cimport RingProducer
from ferrisdb.kernel.source cimport Hit
from ferrisdb.kernel.turn cimport Turn

cdef class Pin

cdef class Attachment(RingProducer):
    cdef uint8_t *slot
    cdef readonly ReadView view
    cdef uint8_t *scratch
    cdef Py_ssize_t key_bytes_max
    cdef uint8_t slots_taken[256]
    cdef Turn turn              # at keys that transactions fight for
    cdef int enter(self) except -1
    cdef int pin(self, uint64_t *seq) except -1
    cdef Pin pinned(self)                 # `take_pin`
    cdef int aim(self, bytes prefix, object key, Probe *probe) except -1
    cdef object value_at(self, bytes prefix, object key)
    cdef list values_at(self, bytes prefix, list wanted)
    cdef int stored(self, bytes prefix, object key) except -1
    cdef bint expired(self, const Hit *hit) noexcept
    cdef uint8_t *window        # the stored keys of a window of multi_get; under the GIL
    cdef uint64_t window_room
    cdef list _wanted(self, keys)
    cdef int _read_many(self, bytes prefix, ReadView view, list keys, list values, uint64_t seq,
                        uint64_t now_us) except -1
    cdef int _open_wanted(self, ReadView view) except -1
    cdef int _make_room(self, uint64_t nbytes) except -1
    cdef uint32_t _take_slot(self) except 0

cdef class Pin:
    cdef readonly Attachment owner
    cdef uint8_t *slot
    cdef uint32_t index
    cdef readonly uint64_t session
    cdef readonly ReadView view
    cdef readonly uint64_t seq
    cdef readonly uint64_t now_us
    cdef readonly uint64_t generation
    cdef void _let_go(self) noexcept
    cdef int let_go(self) noexcept        # `release`
    cdef int check(self) except -1
    cdef tuple entry_at(self, bytes prefix, object key)
    cdef list values_at(self, bytes prefix, list wanted)
    cdef bint is_ordered(self) noexcept   # the memtables' order reaches the snapshot
    cdef int open_wanted(self) except -1
