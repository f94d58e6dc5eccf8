# What a commit group has written so far, by key, for judging its later requests.
#
# An entry is the place of an operation in the group's buffer: the newest of its key. Range deletes
# are listed beside. Both are exact: what the group did not write is never taken for written. Where
# there is no room to be exact `everything` is set, and the group ends before it is asked.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.cpu cimport compare
from ferrisdb.kernel.source cimport KIND_RANGE_DELETE
from ferrisdb.kernel.wal cimport Op, op_parse

cdef enum:
    OVERLAY_SLOTS = 65536
    OVERLAY_MAX = 32768
    OVERLAY_RANGES = 64
    OVERLAY_NONE = 0xFFFFFFFF

cdef struct OverlaySlot:
    uint64_t hash
    uint32_t place              # of the operation in the group, plus 1; 0: the slot is free
    uint32_t zero

cdef struct Overlay:
    OverlaySlot slots[OVERLAY_SLOTS]
    uint32_t used[OVERLAY_MAX]  # the slots in use: clearing costs what was used, not what there is
    uint32_t ranges[OVERLAY_RANGES]
    uint32_t count
    uint32_t range_count
    bint everything


cdef inline void overlay_clear(Overlay *o) noexcept nogil:
    cdef uint32_t i
    for i in range(o.count):
        o.slots[o.used[i]].place = 0
    o.count = o.range_count = 0
    o.everything = False


cdef inline bint same_key(const uint8_t *group, uint32_t place, const uint8_t *key,
                          uint32_t key_bytes) noexcept nogil:
    cdef Op op
    return (op_parse(group + place, 1 << 31, &op) != 0 and op.key_bytes == key_bytes
            and compare(op.key, key_bytes, key, key_bytes) == 0)


cdef inline uint32_t overlay_slot(const Overlay *o, const uint8_t *group, uint64_t hash,
                                  const uint8_t *key, uint32_t key_bytes) noexcept nogil:
    # The key's slot, or the free one where it belongs. A quarter is always free.
    cdef uint32_t i = hash & (OVERLAY_SLOTS - 1)
    while o.slots[i].place and not (o.slots[i].hash == hash and same_key(
            group, o.slots[i].place - 1, key, key_bytes)):
        i = (i + 1) & (OVERLAY_SLOTS - 1)
    return i


cdef inline void overlay_add(Overlay *o, const uint8_t *group, uint64_t hash, const Op *op,
                             uint32_t place) noexcept nogil:
    # The operation that begins at `place` of the group; later ones of a key stand for earlier ones.
    cdef uint32_t i
    if op.kind == KIND_RANGE_DELETE:
        if o.range_count == OVERLAY_RANGES:
            o.everything = True
            return
        o.ranges[o.range_count] = place
        o.range_count += 1
        return
    i = overlay_slot(o, group, hash, op.key, op.key_bytes)
    if o.slots[i].place == 0:
        if o.count == OVERLAY_MAX:
            o.everything = True
            return
        o.slots[i].hash = hash
        o.used[o.count] = i
        o.count += 1
    o.slots[i].place = place + 1


cdef inline uint32_t overlay_find(const Overlay *o, const uint8_t *group, uint64_t hash,
                                  const uint8_t *key, uint32_t key_bytes) noexcept nogil:
    # Place of the operation that decides what the key holds, OVERLAY_NONE if none has written it.
    cdef uint32_t found = OVERLAY_NONE, i, place
    cdef Op op
    if o.count:
        place = o.slots[overlay_slot(o, group, hash, key, key_bytes)].place
        if place:
            found = place - 1
    for i in range(o.range_count):
        place = o.ranges[i]
        if found != OVERLAY_NONE and place < found:
            continue
        if op_parse(group + place, 1 << 31, &op) and compare(
                op.key, op.key_bytes, key, key_bytes) <= 0 and (
                op.value_bytes == 0
                or compare(key, key_bytes, op.value, op.value_bytes) < 0):
            found = place
    return found
