# cython: language_level=3, boundscheck=False, cdivision=True
"""Write one table, front to back, from entries in key order.

Private memory holds the tail of the file that isn't a whole 2 MiB yet, 12 bytes for each unique
key (its hash and place, for the hash index at the end) and the block index; never the entries.

Long because the sections of a table are written by one object, in one order.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset
from ferrisdb.kernel.cpu cimport compare, crc32c, hash_bytes, load_u32, prefetch, put_u32, put_u64
from ferrisdb.kernel.source cimport (
    Hit, KIND_DELETE, KIND_PUT, KIND_PUT_EXPIRING, Source)
from ferrisdb.kernel.tableformat cimport (
    BUCKET_BYTES, BUCKET_KEYS, BUCKET_SLOTS, ENTRY_OLDER, ENTRY_SEQ, ENTRY_SHARED, ENTRY_WIDE,
    FILTER_KEYS, RESTART_ENTRIES, TABLE_HEADER_BYTES, TABLE_PAGE_BYTES, filter_add, fingerprint,
    key_head, overflow_bit)
from ferrisdb.kernel.tombstones cimport RangeTombstones

import numpy as np

from ferrisdb import limits
from ferrisdb.errors import ClosedError, UsageError
from ferrisdb.kernel import properties as layout

cdef enum:
    # A huge page: what one write fills, ext4 and xfs keep in one, and map by one.
    FLUSH_BYTES = 1 << 21

    # Why the last build_from came back.
    STOP_END = 0
    STOP_BYTES = 1
    STOP_KEY = 2
    STOP_STEPS = 3
    SHARED_FIELD_BYTES = 6
    BUCKETS_AHEAD = 8               # whose lines are fetched while one is filled

# Entries live below 4 GiB, so that a slot's place is 32 bits; the last block's end fits too.
cdef uint64_t DATA_END_MAX = 0xFFFF_0000 - 4096
cdef uint64_t KEY_MAX = limits.STORED_KEY_BYTES_MAX
cdef uint64_t VALUE_MAX = limits.VALUE_BYTES_MAX
cdef uint64_t SEQ_MAX = limits.SEQNO_MAX


cdef int fail(str reason) except -1 with gil:
    raise UsageError(reason)


cdef uint8_t *reserve(Bytes *b, uint64_t count) except NULL nogil:
    """Return the place behind the used bytes, with room for `count` more; doesn't use them yet."""
    cdef uint64_t room = b.room
    cdef uint8_t *grown
    if b.at == NULL or b.used + count > room:
        room = max(b.used + count, room + (room >> 1), <uint64_t>256)
        grown = <uint8_t *>realloc(b.at, room)
        if grown == NULL:
            with gil:
                raise MemoryError
        b.at, b.room = grown, room
    return b.at + b.used


cdef int extend(Bytes *b, const void *source, uint64_t count) except -1 nogil:
    memcpy(reserve(b, count), source, count)
    b.used += count
    return 0


cdef int extend_u32(Bytes *b, uint32_t number) except -1 nogil:
    return extend(b, &number, 4)


cdef int assign(Bytes *b, const void *source, uint64_t count) except -1 nogil:
    b.used = 0
    return extend(b, source, count)


cdef bytes as_bytes(Bytes *b):
    return PyBytes_FromStringAndSize(<const char *>b.at, b.used)


cdef inline uint64_t shared_bytes(const uint8_t *a, uint64_t an, const uint8_t *b,
                                  uint64_t bn) noexcept nogil:
    cdef uint64_t n = min(an, bn), i = 0
    while i < n and a[i] == b[i]:
        i += 1
    return i


@cython.final
cdef class TableBuilder:
    """One table being written; the caller names, syncs and renames the file."""

    def __init__(self, file, *, uint64_t file_number, bytes database_id not None,
                 uint64_t created_us, uint64_t gc_floor=0, uint64_t block_bytes=4096,
                 bint bottom=False, origin=layout.NO_ORIGIN, bint filtered=False):
        """Begin a table in `file`, whose `append` is called with 2 MiB at a time.

        Shape:  what `append` gets is a memoryview, released when it returns. `bottom`: nothing
                older than these entries lies in any other table, and range tombstones at or below
                `gc_floor` have been carried out. Only then are sequences at or below `gc_floor`
                left out: elsewhere they decide which table's version wins.
                `origin`: a TableOrigin, for the properties. `filtered`: a Bloom filter in place of
                the hash index, a fifth of its size; a lookup then searches the block index too.
        """
        if len(database_id) != 16:
            raise UsageError(f"a database id has 16 bytes, not {len(database_id)}")
        if self.file is not None:
            raise UsageError("a builder builds one table")
        self.file = file
        self.file_number = file_number
        self.database_id = database_id
        self.created_us = created_us
        self.gc_floor = gc_floor
        self.block_bytes = block_bytes
        self.bottom = bottom
        self.origin = origin
        self.filtered = filtered
        self.ranges = []
        self.min_seq = SEQ_MAX
        header = bytearray(TABLE_HEADER_BYTES)
        header[0:8] = layout.FILE_MAGIC
        header[8:10] = layout.VERSION.to_bytes(2, "little")
        header[12:16] = TABLE_HEADER_BYTES.to_bytes(4, "little")
        header[20:24] = TABLE_HEADER_BYTES.to_bytes(4, "little")
        header[24:32] = created_us.to_bytes(8, "little")
        header[32:40] = file_number.to_bytes(8, "little")
        header[40:56] = database_id
        cdef bytes covered = bytes(header[:16] + header[20:])
        header[16:20] = crc32c(0, <const uint8_t *>covered, 60).to_bytes(4, "little")
        cdef bytes stored = bytes(header)
        extend(&self.out, <const uint8_t *>stored, TABLE_HEADER_BYTES)

    def __dealloc__(self):
        free(self.out.at)
        free(self.page_crcs.at)
        free(self.first_key.at)
        free(self.stop_key.at)
        free(self.last_key.at)
        free(self.head_key.at)
        free(self.hashes.at)
        free(self.places.at)
        free(self.block_offsets.at)
        free(self.index_ends.at)
        free(self.index_keys.at)
        free(self.restarts.at)
        free(self.expiries.at)

    @property
    def file_bytes(self):
        """How many bytes the file and the buffered tail have, indexes not counted."""
        return self.out_offset + self.out.used

    @property
    def entries(self):
        """How many entries have been added."""
        return self.entry_count

    @property
    def quarter_expires_us(self):
        """When a quarter of the entries will have expired; 0: never."""
        cdef uint64_t quarter = self.entry_count // 4
        if self.expiring_count <= quarter:
            return 0
        times = np.frombuffer(as_bytes(&self.expiries), dtype="<u8")
        return int(np.partition(times, quarter)[quarter])

    def add(self, bytes key not None, uint64_t seq, uint8_t kind, uint64_t expires_us,
            bytes value not None):
        """Add one entry: keys ascending, and of a key the newest version first.

        Raises: UsageError, nothing added; what `file.append` raises, and the builder is dead.
        """
        self._check_usable()
        if len(key) > KEY_MAX or len(value) > VALUE_MAX:
            raise UsageError(f"an entry of {len(key)} and {len(value)} bytes is over the limits")
        self.put(<const uint8_t *>key, <uint32_t>len(key), seq, kind, expires_us,
                 <const uint8_t *>value, <uint32_t>len(value))

    def add_range_tombstone(self, bytes start not None, bytes end not None, uint64_t seq):
        """Add a range tombstone over [start, end), in any order; an empty end means unbounded."""
        self._check_usable()
        if len(start) > KEY_MAX or len(end) > KEY_MAX or seq == 0 or seq > SEQ_MAX:
            raise UsageError("a range tombstone with a key or sequence over the limits")
        if end and start >= end:
            raise UsageError(f"a range tombstone needs start < end, not {start!r} and {end!r}")
        if self.bottom and seq <= self.gc_floor:
            raise UsageError("carry out range tombstones below the floor before a bottom table")
        self.ranges.append((start, end, seq))

    @property
    def next_key(self):
        """The key before which the last build_from stopped, None at its source's end."""
        return None if self.exhausted else as_bytes(&self.stop_key)

    @property
    def is_split(self):
        """Whether the last build_from stopped because this table is to end there."""
        return self.stop == STOP_BYTES or self.stop == STOP_KEY

    def build_from(self, Source source not None, *, RangeTombstones tombstones=None,
                   uint64_t expired_us=0, uint64_t bytes_max=0, bytes until=None,
                   uint64_t steps_max=0):
        """Add what an all-versions source shows, from where it stands (its first entry if new).

        Versions that a newer one at or below `gc_floor` shadows are dropped. With `tombstones`,
        so are versions at or below a covering tombstone that is itself at or below `gc_floor`.
        In a bottom table deletes at or below `gc_floor` go too, and so do entries that expired
        by `expired_us`, at or below `gc_floor`.

        Shape:   `bytes_max` other than 0 stops before the first new key with that many bytes
                 written; the source then stands on that key, ready for the next table. `until`
                 stops before the first key at or above it, `steps_max` other than 0 before the
                 first new key after so many steps of the source, written or not.
        Returns: how many entries were added.
        Raises:  UsageError; what the source or `file.append` raises, and the builder is dead.
        """
        cdef int64_t added
        cdef const uint8_t *limit = NULL
        cdef uint64_t limit_bytes = 0
        self._check_usable()
        if not source.all_versions:
            raise UsageError("a table is built from a source of all versions")
        try:
            if not source.valid:
                source.seek_first()
            if until is not None:
                limit, limit_bytes = until, len(until)
            with nogil:
                added = self._drain(source, tombstones, expired_us, bytes_max, limit, limit_bytes,
                                    steps_max)
            if source.valid:
                assign(&self.stop_key, source.key, source.key_bytes)
        except BaseException:
            self.broken = True
            raise
        self.exhausted = not source.valid
        return added

    cdef int64_t _drain(self, Source source, RangeTombstones tombstones, uint64_t expired_us,
                        uint64_t bytes_max, const uint8_t *limit, uint64_t limit_bytes,
                        uint64_t steps_max) except -1 nogil:
        cdef int64_t added = 0
        cdef uint64_t steps = 0
        cdef bint same, settled = False, covered
        cdef bint first = True
        cdef uint64_t floor = self.gc_floor
        cdef Bytes key
        cdef Hit *hit = &source.hit
        memset(&key, 0, sizeof(Bytes))
        self.stop = STOP_END
        try:
            while source.valid:
                same = not first and compare(key.at, key.used, source.key, source.key_bytes) == 0
                if not same:
                    if bytes_max and self.out_offset + self.out.used >= bytes_max:
                        self.stop = STOP_BYTES
                        break
                    if limit != NULL and compare(source.key, source.key_bytes,
                                                 limit, limit_bytes) >= 0:
                        self.stop = STOP_KEY
                        break
                    if steps_max and steps >= steps_max:
                        self.stop = STOP_STEPS
                        break
                    assign(&key, source.key, source.key_bytes)
                    settled = False
                first = False
                if not settled:
                    # `settled`: no snapshot can see anything older of this key.
                    settled = hit.seq <= floor
                    covered = (tombstones is not None and settled and
                               tombstones.covering(source.key, source.key_bytes, floor) > hit.seq)
                    if not covered and not (self.bottom and settled and (
                            hit.kind == KIND_DELETE or (hit.kind == KIND_PUT_EXPIRING and
                                                        hit.expires_us <= expired_us))):
                        self.put(source.key, source.key_bytes, hit.seq, hit.kind,
                                 hit.expires_us, hit.value, hit.value_bytes)
                        added += 1
                source.step()
                steps += 1
        finally:
            free(key.at)
        return added

    cdef int put(self, const uint8_t *key, uint32_t key_bytes, uint64_t seq, uint8_t kind,
                 uint64_t expires_us, const uint8_t *value, uint32_t value_bytes) except -1 nogil:
        cdef bint older = False
        cdef int order
        if key_bytes > KEY_MAX or value_bytes > VALUE_MAX or seq > SEQ_MAX:
            fail("an entry over the limits")
        if kind == KIND_DELETE:
            if value_bytes:
                fail("a delete carries no value")
        elif kind != KIND_PUT and kind != KIND_PUT_EXPIRING:
            fail("entries are puts and deletes")
        if self.entry_count:
            order = compare(self.last_key.at, self.last_key.used, key, key_bytes)
            if order > 0 or (order == 0 and seq >= self.last_seq):
                fail("entries go in by key ascending, then sequence descending")
            older = order == 0
            if older and self.bottom and self.last_seq <= self.gc_floor:
                fail("no snapshot sees a version behind one at or below the floor")
        else:
            assign(&self.first_key, key, key_bytes)
        if (self.out_offset + self.out.used + key_bytes + value_bytes + self.restarts.used
                > DATA_END_MAX):
            fail("a table's entries take at most 4 GiB")
        self._write_entry(key, key_bytes, seq, kind, expires_us, value, value_bytes, older)
        assign(&self.last_key, key, key_bytes)
        self.last_seq = seq
        self.entry_count += 1
        self.delete_count += kind == KIND_DELETE
        self.raw_key_bytes += key_bytes
        self.raw_value_bytes += value_bytes
        self.min_seq = min(self.min_seq, seq)
        self.max_seq = max(self.max_seq, seq)
        if kind == KIND_PUT_EXPIRING:
            if self.expiring_count == 0 or expires_us < self.expires_us_min:
                self.expires_us_min = expires_us
            self.expiring_count += 1
            extend(&self.expiries, &expires_us, 8)
        if self.out.used >= FLUSH_BYTES:
            self._flush(False)
        return 0

    cdef int _write_entry(self, const uint8_t *key, uint32_t key_bytes, uint64_t seq, uint8_t kind,
                          uint64_t expires_us, const uint8_t *value, uint32_t value_bytes,
                          bint older) except -1 nogil:
        cdef uint64_t offset, full, hash_word, shared = 0
        cdef bint wide, with_seq = not (self.bottom and seq <= self.gc_floor)
        cdef uint8_t flags = kind
        cdef uint8_t *p
        full = (4 + 8 * with_seq + 8 * (kind == KIND_PUT_EXPIRING)
                + <uint64_t>key_bytes + value_bytes)
        if self.in_block and (
                self.out_offset + self.out.used - self.block_offset + full > self.block_bytes):
            self._end_block(key, key_bytes)
        offset = self.out_offset + self.out.used
        if not self.in_block:
            self.in_block = True
            self.block_offset = offset
            self.group_entries = 0
            extend_u32(&self.block_offsets, <uint32_t>offset)
        if self.group_entries == 0:
            extend_u32(&self.restarts, <uint32_t>(offset - self.block_offset))
            assign(&self.head_key, key, key_bytes)
            self.head_offset = offset
        else:
            # A shared head costs a lookup another cache line, so it must save an eighth.
            shared = shared_bytes(self.head_key.at, self.head_key.used, key, min(key_bytes, 0xFFFF))
            if shared < SHARED_FIELD_BYTES or (shared - SHARED_FIELD_BYTES) * 8 < full:
                shared = 0
        self.group_entries = (self.group_entries + 1) % RESTART_ENTRIES
        wide = key_bytes - shared > 0xFF or value_bytes > 0xFFFF
        flags |= (ENTRY_OLDER * older | ENTRY_WIDE * wide | ENTRY_SEQ * with_seq |
                  ENTRY_SHARED * (shared > 0))
        p = reserve(&self.out, full + 16)
        if wide:
            put_u32(p, flags | <uint32_t>(key_bytes - shared) << 8)
            put_u32(p + 4, value_bytes)
            p += 8
        else:
            put_u32(p, flags | <uint32_t>(key_bytes - shared) << 8 | value_bytes << 16)
            p += 4
        if shared:
            put_u32(p, <uint32_t>(offset - self.head_offset))
            p[4] = shared & 0xFF
            p[5] = <uint8_t>(shared >> 8)
            p += SHARED_FIELD_BYTES
        if with_seq:
            put_u64(p, seq)
            p += 8
        if kind == KIND_PUT_EXPIRING:
            put_u64(p, expires_us)
            p += 8
        memcpy(p, key + shared, key_bytes - shared)
        p += key_bytes - shared
        memcpy(p, value, value_bytes)
        self.out.used = p + value_bytes - self.out.at
        if not older:
            hash_word = hash_bytes(key, key_bytes)
            extend(&self.hashes, &hash_word, 8)
            extend_u32(&self.places, <uint32_t>offset)
            self.key_count += 1
        return 0

    cdef int _end_block(self, const uint8_t *next_key, uint32_t next_bytes) except -1 nogil:
        # Trailer, and in the block index the shortest key >= the last and < the next one.
        # The count stands at both ends: for who comes along the entries and who from the end.
        cdef uint8_t *p = reserve(&self.out, 5)
        cdef uint32_t restart_count = <uint32_t>(self.restarts.used // 4)
        cdef uint64_t shared, keep = self.last_key.used
        p[0] = 0
        put_u32(p + 1, restart_count)
        self.out.used += 5
        extend(&self.out, self.restarts.at, self.restarts.used)
        extend_u32(&self.out, restart_count)
        self.restarts.used = 0
        self.in_block = False
        if next_key != NULL:
            shared = shared_bytes(self.last_key.at, keep, next_key, next_bytes)
            # Both end in what follows the shared bytes: raise the last key's byte if that stays
            # below the next key; otherwise the whole last key is the separator.
            if (shared + 1 < keep and shared < next_bytes
                    and self.last_key.at[shared] + 1 < next_key[shared]):
                extend(&self.index_keys, self.last_key.at, shared)
                p = reserve(&self.index_keys, 1)
                p[0] = self.last_key.at[shared] + 1
                self.index_keys.used += 1
                return extend_u32(&self.index_ends, <uint32_t>self.index_keys.used)
        extend(&self.index_keys, self.last_key.at, keep)
        return extend_u32(&self.index_ends, <uint32_t>self.index_keys.used)

    cdef int _flush(self, bint all_of_it) except -1 nogil:
        # Hand whole pages to the file; the last flush of the page area hands over all there is.
        cdef uint64_t count = self.out.used, at = 0, n
        if not all_of_it:
            count &= ~<uint64_t>(FLUSH_BYTES - 1)
        while at < count:
            n = min(<uint64_t>TABLE_PAGE_BYTES, count - at)
            extend_u32(&self.page_crcs, crc32c(0, self.out.at + at, n))
            at += n
        with gil:
            self._append(count)
        return 0

    cdef int _append(self, uint64_t count) except -1:
        # A view and not a copy: it is over when `append` has returned.
        cdef uint64_t at = 0, n
        self.broken = True
        while at < count:
            n = min(<uint64_t>FLUSH_BYTES, count - at)
            with PyMemoryView_FromMemory(<char *>self.out.at + at, n, PyBUF_READ) as chunk:
                self.file.append(chunk)
            at += n
        self.broken = False
        self.out_offset += count
        self.out.used -= count
        if self.out.used:
            memcpy(self.out.at, self.out.at + count, self.out.used)
        return 0

    cdef int _check_usable(self) except -1:
        if self.finished or self.broken:
            raise ClosedError("the builder has finished or failed: begin another table")
        return 0

    def finish(self):
        """Write the indexes, the properties and the footer; the builder is done then.

        Returns: TableProperties of the table.
        Raises:  UsageError, if nothing was added; what `file.append` raises.
        """
        cdef uint64_t bucket_count, hash_offset, index_offset, index_shared, first, data_end
        self._check_usable()
        if self.entry_count == 0 and not self.ranges:
            raise UsageError("an empty table is not written")
        if self.in_block:
            self._end_block(NULL, 0)
        self.data_end = data_end = self.out_offset + self.out.used
        self._pad(64)
        hash_offset = self.out_offset + self.out.used
        if self.filtered:
            bucket_count = (self.key_count + FILTER_KEYS - 1) // FILTER_KEYS
            self._write_filter(bucket_count)
        else:
            bucket_count = (self.key_count + BUCKET_KEYS - 1) // BUCKET_KEYS
            self._write_hash_index(bucket_count)
        free(self.hashes.at)
        free(self.places.at)
        memset(&self.hashes, 0, sizeof(Bytes))
        memset(&self.places, 0, sizeof(Bytes))
        index_offset = self.out_offset + self.out.used
        index_shared = 0
        if self.index_ends.used:
            first = load_u32(self.index_ends.at)
            index_shared = shared_bytes(self.index_keys.at, first,
                                        self.last_key.at, self.last_key.used)
            self._write_block_index(index_shared)
        tombstones = RangeTombstones(self.ranges, self.gc_floor)
        return self._finish_file(tombstones, dict(
            data_end=data_end, hash_offset=hash_offset, bucket_count=bucket_count,
            index_offset=index_offset, index_shared=index_shared))

    def _finish_file(self, RangeTombstones tombstones, dict sections):
        """Write range tombstones, checksums, properties and footer."""
        fragments = tombstones.fragments()
        cdef bytes encoded = layout.encode_fragments(fragments)
        cdef uint64_t tombstones_offset = self.out_offset + self.out.used, i
        extend(&self.out, <const uint8_t *>encoded, len(encoded))
        cdef uint64_t page_area = self.out_offset + self.out.used
        self._flush(True)
        cdef bytes groups = b"".join([
            crc32c(0, self.page_crcs.at + i,
                   min(<uint64_t>TABLE_PAGE_BYTES, self.page_crcs.used - i)).to_bytes(4, "little")
            for i in range(0, self.page_crcs.used, TABLE_PAGE_BYTES)])
        unbounded = bool(fragments) and not fragments[-1][1]
        points = self.entry_count > 0
        keys = [as_bytes(&self.first_key), as_bytes(&self.last_key)] if points else []
        # An unbounded end is empty, which would sort first: its fragment's start stands for it.
        keys += [f[0] for f in fragments[:1]] + [f[1] or f[0] for f in fragments[-1:]]
        seqs = [tombstones.oldest_seq, tombstones.newest_seq] if fragments else []
        seqs += [self.min_seq, self.max_seq] if points else []
        body = (len(groups) + layout.FIXED_BYTES + len(min(keys)) + len(max(keys))
                + len(layout.encode_numbers(self.origin)))
        file_bytes = page_area + self.page_crcs.used + body + layout.FOOTER_BYTES
        elided = self.bottom and points and self.min_seq <= self.gc_floor
        properties = layout.TableProperties(
            block_count=self.block_offsets.used // 4, index_key_bytes=self.index_keys.used,
            tombstones_offset=tombstones_offset, tombstones_bytes=len(encoded),
            entry_count=self.entry_count, key_count=self.key_count,
            delete_count=self.delete_count, expiring_count=self.expiring_count,
            fragment_count=len(fragments), min_seq=min(seqs), max_seq=max(seqs),
            raw_key_bytes=self.raw_key_bytes, raw_value_bytes=self.raw_value_bytes,
            gc_floor=self.gc_floor, created_us=self.created_us, file_number=self.file_number,
            expires_us_min=self.expires_us_min, file_bytes=file_bytes,
            database_id=self.database_id,
            flags=(layout.UNBOUNDED * unbounded | layout.ELIDED * elided
                   | layout.REPAIRED * self.origin.is_repair
                   | layout.FILTERED * (self.filtered and self.key_count > 0)),
            smallest_key=min(keys), largest_key=max(keys), origin=self.origin, **sections)
        cdef bytes tail = groups + layout.encode_properties(properties)
        footer = layout.Footer(
            page_area, self.page_crcs.used // 4, len(groups) // 4,
            page_area + self.page_crcs.used, len(tail),
            crc32c(0, <const uint8_t *>tail, len(tail)), file_bytes, self.file_number)
        cdef bytes sealed = tail + layout.encode_footer(footer)
        self.out.used = 0
        extend(&self.out, self.page_crcs.at, self.page_crcs.used)
        extend(&self.out, <const uint8_t *>sealed, len(sealed))
        self._append(self.out.used)
        self.finished = True
        return properties

    cdef int _pad(self, uint64_t unit) except -1:
        cdef uint64_t count = -(self.out_offset + self.out.used) % unit
        memset(reserve(&self.out, count), 0, count)
        self.out.used += count
        return 0

    cdef int _write_hash_index(self, uint64_t bucket_count) except -1 nogil:
        """Place each key in its bucket, or in the next ones that have room."""
        cdef uint64_t i, h, bucket, at = self.out.used, size = bucket_count * BUCKET_BYTES
        cdef const uint64_t *hashes = <const uint64_t *>self.hashes.at
        cdef const uint32_t *places = <const uint32_t *>self.places.at
        cdef uint8_t *b
        cdef uint32_t slot, bit
        memset(reserve(&self.out, size), 0, size)
        for i in range(self.key_count):
            h = hashes[i]
            if i + BUCKETS_AHEAD < self.key_count:
                prefetch(self.out.at + at + BUCKET_BYTES * (
                    (hashes[i + BUCKETS_AHEAD] >> 32) * bucket_count >> 32))
            bucket = (h >> 32) * bucket_count >> 32
            bit = overflow_bit(h)
            while True:
                b = self.out.at + at + bucket * BUCKET_BYTES
                slot = 0
                while slot < BUCKET_SLOTS and b[slot]:
                    slot += 1
                if slot < BUCKET_SLOTS:
                    break
                put_u32(b + 12, load_u32(b + 12) | bit)
                bucket = bucket + 1 if bucket + 1 < bucket_count else 0
            b[slot] = fingerprint(h)
            put_u32(b + 16 + 4 * slot, places[i])
        self.out.used += size
        return 0

    cdef int _write_filter(self, uint64_t block_count) except -1 nogil:
        """Set each key's bits in its block: a miss costs one cache line.

        Source: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007.
        """
        cdef uint64_t i, at = self.out.used, size = block_count * BUCKET_BYTES
        cdef const uint64_t *hashes = <const uint64_t *>self.hashes.at
        memset(reserve(&self.out, size), 0, size)
        for i in range(self.key_count):
            filter_add(self.out.at + at + BUCKET_BYTES * ((hashes[i] >> 32) * block_count >> 32),
                       hashes[i])
        self.out.used += size
        return 0

    cdef int _write_block_index(self, uint64_t index_shared) except -1 nogil:
        """Write heads, block offsets, key ends and keys of the block index."""
        cdef uint64_t i, start = 0, end, count = self.index_ends.used // 4
        cdef uint8_t *p
        for i in range(count):
            end = load_u32(self.index_ends.at + 4 * i)
            p = reserve(&self.out, 8)
            put_u64(p, key_head(self.index_keys.at + start + index_shared,
                                end - start - index_shared))
            self.out.used += 8
            start = end
        extend(&self.out, self.block_offsets.at, self.block_offsets.used)
        extend_u32(&self.out, <uint32_t>self.data_end)
        extend(&self.out, self.index_ends.at, self.index_ends.used)
        return extend(&self.out, self.index_keys.at, self.index_keys.used)
