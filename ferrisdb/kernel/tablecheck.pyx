# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Prove that a table is what its builder would have written: every checksum, and T1 to T6."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from ferrisdb.kernel.cpu cimport compare, hash_bytes, load_u32, load_u64
from ferrisdb.kernel.source cimport KIND_DELETE, KIND_PUT_EXPIRING
from ferrisdb.kernel.table cimport Entry, Table
from ferrisdb.kernel.tableformat cimport (
    BUCKET_BYTES, BUCKET_SLOTS, RESTART_ENTRIES, TABLE_HEADER_BYTES, filter_has, fingerprint,
    key_head, overflow_bit)

from ferrisdb import limits
from ferrisdb.errors import CorruptionError
from ferrisdb.kernel import properties as layout


cdef struct Walk:
    # What one pass over the entries has seen so far.
    uint8_t *key                # whole key of the entry before
    uint64_t key_bytes
    uint64_t seq
    uint64_t entry_count, key_count, delete_count, expiring_count
    uint64_t raw_key_bytes, raw_value_bytes, expires_us_min
    uint64_t min_seq, max_seq
    uint64_t group_entries, restart_count
    uint64_t block, block_begin


cdef uint64_t KEY_MAX = limits.STORED_KEY_BYTES_MAX


def check_table(Table table not None):
    """Read the whole file again; raise CorruptionError at the first fault."""
    cdef Walk walk
    memset(&walk, 0, sizeof(Walk))
    _check_ends(table)
    walk.key = <uint8_t *>malloc(KEY_MAX + 1)
    if walk.key == NULL:
        raise MemoryError
    walk.min_seq = ~<uint64_t>0
    try:
        with nogil:
            memset(table.page_seen, 0, 8 * (table.page_count // 64 + 1))
            memset(table.group_seen, 0, 8 * (table.group_count // 64 + 1))
            table.check_pages(0, table.page_count - 1)
            if table.block_count:
                table.index_seen = False
                table.index_checked()
                _check_entries(table, &walk)
            _check_gap(table)
            _check_slots(table)
        _check_properties(table, &walk)
    finally:
        free(walk.key)


def page_faults(Table table not None):
    """Return a CorruptionError for each page, or page of checksums, that can't be right."""
    cdef uint64_t page
    found = {}
    memset(table.page_seen, 0, 8 * (table.page_count // 64 + 1))
    memset(table.group_seen, 0, 8 * (table.group_count // 64 + 1))
    for page in range(table.page_count):
        try:
            table.check_pages(page, page)
        except CorruptionError as error:
            # A page of checksums fails once for each page that it stands for.
            found.setdefault(error.offset, error)
    return list(found.values())


def _check_ends(Table table):
    """Compare header, properties and footer in the file with what was read at opening."""
    end = table.map_bytes
    footer = layout.decode_footer(table._read_bytes(end - 64, 64), table.path, end)
    tail = table._read_tail(footer)
    table._check_header(footer, table.file_number)
    offset = footer.properties_offset + 4 * footer.group_count
    if layout.decode_properties(
            tail[4 * footer.group_count:], table.path, offset) != table.properties:
        raise CorruptionError(table.path, offset, "the properties read at opening", "others")


cdef int _check_entries(Table table, Walk *walk) except -1 nogil:
    cdef uint64_t offset = TABLE_HEADER_BYTES
    cdef Entry entry
    walk.block_begin = offset
    while offset < table.data_end:
        if table.decode(offset, &entry):
            _check_restart(table, &entry, walk)
            _check_order(table, &entry, walk)
            if not entry.older:
                _check_slot_of(table, offset, walk)
        else:
            _check_block_end(table, offset, &entry, walk)
        offset = entry.next
    if walk.block != table.block_count or walk.group_entries:
        return table.corrupt(offset, b"as many blocks as the index has", walk.block)
    return 0


cdef int _check_restart(Table table, Entry *entry, Walk *walk) except -1 nogil:
    # T2: the group's first entry whole, the others sharing with it alone.
    cdef Entry head
    if walk.group_entries % RESTART_ENTRIES == 0:
        walk.restart_count += 1
        if entry.shared:
            return table.corrupt(entry.offset, b"a whole key at a restart", entry.shared)
    elif entry.shared:
        table._decode_head(entry, &head)
        if entry.offset - entry.head > entry.offset - walk.block_begin:
            return table.corrupt(entry.offset, b"a shared key within the block", entry.head)
    walk.group_entries += 1
    return 0


cdef int _check_order(Table table, Entry *entry, Walk *walk) except -1 nogil:
    # T1, and the counts for T6. Leaves the entry's whole key in the walk.
    cdef int order
    if <uint64_t>entry.shared + entry.suffix_bytes > KEY_MAX:
        return table.corrupt(entry.offset, b"a key within the limit", entry.suffix_bytes)
    if walk.entry_count:
        table.compare_key(entry, walk.key, <uint32_t>walk.key_bytes, &order)
        if order < 0 or (order == 0) != entry.older or (order == 0 and entry.seq >= walk.seq):
            return table.corrupt(entry.offset, b"an entry behind the one before", entry.seq)
    elif entry.older:
        return table.corrupt(entry.offset, b"a first entry that is the newest", entry.seq)
    _whole_key(table, entry, walk)
    walk.seq = entry.seq
    walk.entry_count += 1
    walk.key_count += not entry.older
    walk.delete_count += entry.kind == KIND_DELETE
    walk.raw_key_bytes += walk.key_bytes
    walk.raw_value_bytes += entry.value_bytes
    if entry.kind == KIND_PUT_EXPIRING:
        if walk.expiring_count == 0 or entry.expires_us < walk.expires_us_min:
            walk.expires_us_min = entry.expires_us
        walk.expiring_count += 1
    walk.min_seq = min(walk.min_seq, entry.seq)
    walk.max_seq = max(walk.max_seq, entry.seq)
    return 0


cdef int _whole_key(Table table, Entry *entry, Walk *walk) except -1 nogil:
    cdef Entry head
    if entry.shared:
        table._decode_head(entry, &head)
        memcpy(walk.key, head.suffix, entry.shared)
    memcpy(walk.key + entry.shared, entry.suffix, entry.suffix_bytes)
    walk.key_bytes = <uint64_t>entry.shared + entry.suffix_bytes
    return 0


cdef int _check_slot_of(Table table, uint64_t place, Walk *walk) except -1 nogil:
    # T5: the slot on the way that a lookup goes.
    cdef uint64_t key_hash = hash_bytes(walk.key, walk.key_bytes)
    cdef uint64_t bucket = (key_hash >> 32) * table.bucket_count >> 32, _probe
    cdef const uint8_t *b
    cdef uint32_t slot
    if table.filtered:
        if filter_has(table.base + table.hash_offset + BUCKET_BYTES * bucket, key_hash):
            return 0
        return table.corrupt(place, b"this key's bits in the filter", bucket)
    for _probe in range(table.bucket_count):
        b = table.base + table.hash_offset + BUCKET_BYTES * bucket
        for slot in range(BUCKET_SLOTS):
            if b[slot] == fingerprint(key_hash) and load_u32(b + 16 + 4 * slot) == place:
                return 0
        if not load_u32(b + 12) & overflow_bit(key_hash):
            break
        bucket = bucket + 1 if bucket + 1 < table.bucket_count else 0
    return table.corrupt(place, b"a slot for this key", bucket)


cdef int _check_block_end(Table table, uint64_t offset, Entry *end, Walk *walk) except -1 nogil:
    # T3 and T4.
    cdef uint64_t i, at, restarts = load_u32(table.base + offset + 1), entries = 0
    cdef const uint8_t *named = table.base + offset + 5
    cdef const uint8_t *separator
    cdef uint32_t separator_bytes
    cdef Entry entry
    cdef int order
    if (restarts != walk.restart_count or restarts == 0
            or restarts != load_u32(named + 4 * restarts)):
        return table.corrupt(offset, b"as many restarts as groups", restarts)
    at = walk.block_begin
    while table.decode(at, &entry):
        if entries % RESTART_ENTRIES == 0:
            i = entries // RESTART_ENTRIES
            if load_u32(named + 4 * i) != at - walk.block_begin:
                return table.corrupt(offset, b"a restart at each group", i)
        entries += 1
        at = entry.next
    if (walk.block >= table.block_count or table.block_begin(walk.block) != walk.block_begin
            or table.block_begin(walk.block + 1) != end.next):
        return table.corrupt(walk.block_begin, b"a block where the index says", walk.block)
    table.index_key(walk.block, &separator, &separator_bytes)
    if compare(walk.key, walk.key_bytes, separator, separator_bytes) > 0:
        return table.corrupt(walk.block_begin, b"a separator at or above the last key", walk.block)
    if (separator_bytes < table.index_shared
            or load_u64(table.base + table.index_offset + 8 * walk.block)
            != key_head(separator + table.index_shared, separator_bytes - table.index_shared)):
        return table.corrupt(walk.block_begin, b"the separator's head", walk.block)
    if walk.block + 1 < table.block_count:
        table.decode(end.next, &entry)
        table.compare_key(&entry, separator, separator_bytes, &order)
        # Equal only where the versions of one key go on in the next block.
        if order < 0 or (order == 0 and not entry.older):
            return table.corrupt(end.next, b"a separator below the next block", walk.block)
    walk.block += 1
    walk.block_begin = end.next
    walk.group_entries = walk.restart_count = 0
    return 0


cdef int _check_gap(Table table) except -1 nogil:
    # Between the blocks and the hash index: zeros.
    cdef uint64_t at
    for at in range(table.data_end, table.hash_offset):
        if table.base[at]:
            return table.corrupt(at, b"zeros up to the hash index", table.base[at])
    return 0


cdef int _check_slots(Table table) except -1 nogil:
    # T5, the other way round: no slots beside those of the keys, and none behind an empty one.
    cdef uint64_t i, used = 0
    cdef uint32_t slot
    cdef const uint8_t *b
    if table.filtered:
        return 0
    for i in range(table.bucket_count):
        b = table.base + table.hash_offset + BUCKET_BYTES * i
        for slot in range(BUCKET_SLOTS):
            used += b[slot] != 0
    with gil:
        if used != table.properties.key_count:
            raise CorruptionError(table.path, table.hash_offset,
                                  f"{table.properties.key_count} used slots", used)
    return 0


cdef int _check_properties(Table table, Walk *walk) except -1:
    # T6. A sequence that was left out reads as 0, so the lowest is known only without any.
    p = table.properties
    seqs_right = (p.flags & layout.ELIDED or p.fragment_count or p.entry_count == 0
                  or (p.min_seq, p.max_seq) == (walk.min_seq, walk.max_seq))
    last = walk.key[:walk.key_bytes]
    found = (walk.entry_count, walk.key_count, walk.delete_count, walk.expiring_count,
             walk.raw_key_bytes, walk.raw_value_bytes, walk.expires_us_min)
    stated = (p.entry_count, p.key_count, p.delete_count, p.expiring_count,
              p.raw_key_bytes, p.raw_value_bytes, p.expires_us_min)
    offset = table.page_area + 4 * table.page_count
    if found != stated or not seqs_right:
        raise CorruptionError(table.path, offset, f"properties {stated}", found)
    cdef Entry first
    cdef int order = 0
    cdef bytes smallest = p.smallest_key
    if p.entry_count:
        table.decode(TABLE_HEADER_BYTES, &first)
        table.compare_key(&first, smallest, <uint32_t>len(smallest), &order)
    if order < 0:
        raise CorruptionError(table.path, offset, f"keys from {smallest!r} on", "a lower one")
    if p.entry_count and not p.unbounded and p.largest_key < last:
        raise CorruptionError(table.path, offset, f"keys up to {p.largest_key!r}", last)
    fragments = table.tombstones.fragments()
    if fragments and (p.smallest_key > fragments[0][0]
                      or p.unbounded != (not fragments[len(fragments) - 1][1])):
        raise CorruptionError(table.path, offset, "bounds over the range tombstones", p)
    return 0
