# The keys that a commit group has written so far, by hash, for judging its later requests.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef enum:
    OVERLAY_SLOTS = 16384
    OVERLAY_MAX = 8192

# Hashes stand for keys: two keys of one hash make a conflict that isn't one, and a retry.
cdef struct Overlay:
    uint64_t slots[OVERLAY_SLOTS]
    uint32_t count
    bint everything             # too many keys, or a range: every key counts as written


cdef inline void overlay_clear(Overlay *o) noexcept nogil:
    if o.count:
        memset(o.slots, 0, sizeof(o.slots))
        o.count = 0
    o.everything = False


cdef inline void overlay_add(Overlay *o, uint64_t hash) noexcept nogil:
    cdef uint32_t i = hash & (OVERLAY_SLOTS - 1)
    if o.count >= OVERLAY_MAX:
        o.everything = True
        return
    hash |= 1
    while o.slots[i] and o.slots[i] != hash:
        i = (i + 1) & (OVERLAY_SLOTS - 1)
    if o.slots[i] == 0:
        o.slots[i] = hash
        o.count += 1


cdef inline bint overlay_has(const Overlay *o, uint64_t hash) noexcept nogil:
    cdef uint32_t i = hash & (OVERLAY_SLOTS - 1)
    if o.everything:
        return True
    hash |= 1
    while o.slots[i]:
        if o.slots[i] == hash:
            return True
        i = (i + 1) & (OVERLAY_SLOTS - 1)
    return False
