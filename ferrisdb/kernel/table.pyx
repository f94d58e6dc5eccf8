# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Read one table: lookups by hash, and entries in key order.

Numbered invariants, proved by Table.verify():
  T1  keys ascend; of a key, sequences descend and all but the first entry are marked older
  T2  a group's first entry has its whole key; the others share at most that key's bytes
  T3  blocks follow each other without gaps; restarts name every group's first entry
  T4  a separator is >= its block's last key and < the next block's first key, or equals both
  T5  each key has one slot, naming its newest version, reachable over overflow bits
  T6  the properties say what the entries are

Long because a table and its sources share the decoding loops, which must stay inlined. How its
file is opened, read and checked lies in tablefile.pyx.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy
from ferrisdb.kernel.cpu cimport (
    compare, crc32c, hash_bytes, load_u32, load_u64, prefetch as prefetch_line,
    load64_relaxed)
from ferrisdb.kernel.source cimport (
    Hit, KIND_DELETE, KIND_PUT, KIND_PUT_EXPIRING, Source)
from ferrisdb.kernel.tablefile cimport AHEAD_BYTES_MAX, TableFile, seen
from ferrisdb.kernel.tableformat cimport (
    BLOCK_END_BYTES, BUCKET_BYTES, ENTRY_KIND_MASK, ENTRY_OLDER, ENTRY_RESERVED, ENTRY_SEQ,
    ENTRY_SHARED, ENTRY_WIDE, PAGE_SHIFT, TABLE_HEADER_BYTES,
    bucket_match, filter_has, fingerprint, key_head, overflow_bit, trailing_zeros)
from ferrisdb.kernel.tombstones cimport RangeTombstones

from ferrisdb.errors import CorruptionError, UsageError
from ferrisdb.kernel import properties as layout

cdef enum:
    DECODE_BYTES = 32           # no entry's fields in front of its key are longer
    SMALLEST_BLOCK_BYTES = 13   # restart offset, trailer
    PREFETCH_BYTES = 8192
    NEAR_BYTES = 64 << 10       # a scan that goes no further has nothing read ahead of it


cdef int refuse(str reason) except -1 with gil:
    raise UsageError(reason)


@cython.final
cdef class Table(TableFile):
    """One table file, open for reading by any number of threads."""

    def __init__(self, file, *, path=None, file_number=None):
        """Open a table by path or descriptor (which is duplicated); read its footer and properties.

        Shape:  `path` is for messages; `file_number`, if given, must be the file's own.
        Raises: CorruptionError; StorageError; FormatTooNewError. Nothing stays open.
        Cost:   three small reads and a map, whatever the table's size.
        """
        if self.fd >= 0 or self.closed:
            raise UsageError("a Table opens one file")
        self.path = os.fspath(path if path is not None else file if not isinstance(file, int)
                              else f"descriptor {file}")
        self._open_file(file)
        cdef uint64_t size = self._file_size()
        footer = layout.decode_footer(
            self._read_bytes(max(<int64_t>size - 64, 0), min(size, 64)), self.path, size)
        tail = self._read_tail(footer)
        self._check_header(footer, file_number)
        self.page_area = footer.page_area_bytes
        self.page_count = footer.page_count
        self.group_count = footer.group_count
        self._take_properties(tail, footer)
        self._map(footer.file_bytes)
        ranges = []
        if self.properties.fragment_count:
            ranges = self._read_ranges()
        self.tombstones = RangeTombstones(ranges)
        self.has_tombstones = self.tombstones.fragment_count > 0
        self._keep_file(isinstance(file, int))

    cdef bytes _read_tail(self, footer):
        cdef bytes tail = self._read_bytes(footer.properties_offset, footer.properties_bytes)
        cdef uint32_t found = crc32c(0, <const uint8_t *>tail, len(tail))
        if found != footer.properties_crc:
            raise CorruptionError(
                self.path, footer.properties_offset,
                f"properties with checksum {footer.properties_crc:#010x}", f"{found:#010x}")
        return tail

    cdef _check_header(self, footer, file_number):
        layout.check_header(self._read_bytes(0, TABLE_HEADER_BYTES), footer, self.path, file_number)
        self.file_number = footer.file_number

    cdef _take_properties(self, bytes tail, footer):
        """Copy what reading needs out of properties whose checksum was right."""
        offset = footer.properties_offset + 4 * self.group_count
        p = layout.decode_properties(tail[4 * self.group_count:], self.path, offset)
        if (p.tombstones_offset + p.tombstones_bytes != self.page_area
                or p.file_bytes != footer.file_bytes or p.file_number != footer.file_number
                or p.database_id != self._read_bytes(40, 16)):
            raise CorruptionError(self.path, offset, "properties that fit header and footer", p)
        self.properties = p
        self.data_end, self.hash_offset, self.bucket_count = (
            p.data_end, p.hash_offset, p.bucket_count)
        self.filtered = p.filtered
        self.index_offset, self.block_count = p.index_offset, p.block_count
        self.index_key_bytes, self.index_shared = p.index_key_bytes, p.index_shared
        self.min_seq, self.max_seq = p.min_seq, p.max_seq
        self._take_groups(tail)

    cdef list _read_ranges(self):
        cdef uint64_t at = self.properties.tombstones_offset, n = self.properties.tombstones_bytes
        seen(self, at, n)
        return [
            (start, end, seq)
            for start, end, seqs in layout.decode_fragments(
                PyBytes_FromStringAndSize(<const char *>self.base + at, n),
                self.properties.fragment_count, self.path, at)
            for seq in seqs]

    # Entries

    cdef int decode(self, uint64_t offset, Entry *out) except -1 nogil:
        cdef const uint8_t *p = self.base + offset
        cdef uint32_t word, flags
        cdef uint64_t left
        if offset < TABLE_HEADER_BYTES or offset + SMALLEST_BLOCK_BYTES > self.data_end:
            return self.corrupt(offset, b"an entry within the blocks", self.data_end)
        seen(self, offset, 4)
        word = load_u32(p)
        flags = word & 0xFF
        out.offset = offset
        if flags == KIND_PUT:               # most entries of most tables
            out.kind, out.older, out.shared, out.seq, out.expires_us = KIND_PUT, False, 0, 0, 0
            out.suffix_bytes = word >> 8 & 0xFF
            out.value_bytes = word >> 16
            out.suffix = p + 4
            out.value = p + 4 + out.suffix_bytes
            out.next = offset + 4 + out.suffix_bytes + out.value_bytes
            return self._end_entry(out)
        seen(self, offset, DECODE_BYTES)
        if flags == 0:
            left = BLOCK_END_BYTES + 4 * <uint64_t>load_u32(p + 1)
            if left > self.data_end - offset:
                return self.corrupt(offset, b"restarts within the blocks", left)
            out.next = offset + left
            return 0
        out.kind = flags & ENTRY_KIND_MASK
        if flags & ENTRY_RESERVED or (out.kind != KIND_PUT and out.kind != KIND_DELETE
                                      and out.kind != KIND_PUT_EXPIRING):
            return self.corrupt(offset, b"an entry's first byte", flags)
        out.older = (flags & ENTRY_OLDER) != 0
        if flags & ENTRY_WIDE:
            out.suffix_bytes = word >> 8
            out.value_bytes = load_u32(p + 4)
            p += 8
        else:
            out.suffix_bytes = word >> 8 & 0xFF
            out.value_bytes = word >> 16
            p += 4
        out.shared = 0
        if flags & ENTRY_SHARED:
            out.head = load_u32(p)
            out.shared = p[4] | <uint32_t>p[5] << 8
            if out.head > offset - TABLE_HEADER_BYTES or out.shared == 0:
                return self.corrupt(offset, b"a group's first entry before this one", out.head)
            out.head = offset - out.head
            p += 6
        out.seq = 0
        if flags & ENTRY_SEQ:
            out.seq = load_u64(p)
            p += 8
        out.expires_us = 0
        if out.kind == KIND_PUT_EXPIRING:
            out.expires_us = load_u64(p)
            p += 8
        out.suffix = p
        out.value = p + out.suffix_bytes
        out.next = <uint64_t>(p - self.base) + out.suffix_bytes + out.value_bytes
        return self._end_entry(out)

    cdef inline int _end_entry(self, Entry *entry) except -1 nogil:
        if entry.next + SMALLEST_BLOCK_BYTES > self.data_end:
            return self.corrupt(entry.offset, b"an entry that ends within its block", entry.next)
        seen(self, entry.offset, entry.next - entry.offset)
        return 1

    cdef int decode_next(self, uint64_t offset, Entry *out) except -1 nogil:
        if offset >= self.data_end:
            return 0
        if self.decode(offset, out):
            return 1
        offset = out.next
        if offset >= self.data_end:
            return 0
        if not self.decode(offset, out):
            return self.corrupt(offset, b"a block with entries", 0)
        return 1

    cdef int _decode_head(self, Entry *entry, Entry *head) except -1 nogil:
        if not self.decode(entry.head, head) or head.shared or head.suffix_bytes < entry.shared:
            return self.corrupt(entry.head, b"a whole key at the group's first entry", entry.offset)
        return 0

    cdef int is_key(self, Entry *entry, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef Entry head
        if entry.shared + entry.suffix_bytes != key_bytes:
            return 0
        if memcmp(entry.suffix, key + entry.shared, entry.suffix_bytes) != 0:
            return 0
        if entry.shared:
            self._decode_head(entry, &head)
            return memcmp(head.suffix, key, entry.shared) == 0
        return 1

    cdef int compare_key(self, Entry *entry, const uint8_t *key, uint32_t key_bytes,
                         int *order) except -1 nogil:
        cdef Entry head
        if entry.shared:
            self._decode_head(entry, &head)
            order[0] = memcmp(head.suffix, key, min(entry.shared, key_bytes))
            if order[0]:
                return 0
            if key_bytes < entry.shared:
                order[0] = 1
                return 0
        order[0] = compare(entry.suffix, entry.suffix_bytes,
                           key + entry.shared, key_bytes - entry.shared)
        return 0

    # Lookups

    cdef void prefetch(self, uint64_t key_hash) noexcept nogil:
        if self.bucket_count:
            prefetch_line(self.base + self.hash_offset
                          + BUCKET_BYTES * ((key_hash >> 32) * self.bucket_count >> 32))

    cdef void prefetch_entry(self, uint64_t key_hash) noexcept nogil:
        """Prefetch the first lines of the entry that a lookup will most likely compare."""
        cdef uint64_t offset, page
        cdef const uint8_t *b
        cdef uint32_t matches
        if self.bucket_count == 0 or self.filtered:
            return
        offset = self.hash_offset + BUCKET_BYTES * ((key_hash >> 32) * self.bucket_count >> 32)
        page = offset >> PAGE_SHIFT
        if not load64_relaxed(&self.page_seen[page >> 6]) >> (page & 63) & 1:
            return                          # the map must not be touched there yet
        b = self.base + offset
        matches = bucket_match(b, fingerprint(key_hash))
        if matches:
            offset = load_u32(b + 16 + 4 * trailing_zeros(matches))
            prefetch_line(self.base + offset)
            prefetch_line(self.base + offset + 64)
            prefetch_line(self.base + offset + 128)

    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes, uint64_t key_hash,
                    uint64_t snapshot_seq, Hit *out) except -1 nogil:
        cdef uint64_t bucket = (key_hash >> 32) * self.bucket_count >> 32, _probe, offset
        cdef uint8_t fp = fingerprint(key_hash)
        cdef uint32_t matches
        cdef const uint8_t *b
        cdef Entry entry
        if self.bucket_count == 0:
            return self._check_open()
        if self.filtered:
            return self._look_up_filtered(key, key_bytes, key_hash, snapshot_seq, out)
        for _probe in range(self.bucket_count):
            offset = self.hash_offset + BUCKET_BYTES * bucket
            seen(self, offset, BUCKET_BYTES)
            b = self.base + offset
            matches = bucket_match(b, fp)
            while matches:
                offset = load_u32(b + 16 + 4 * trailing_zeros(matches))
                matches &= matches - 1
                # The value is copied soon; its lines come while the key is compared.
                prefetch_line(self.base + offset + 64)
                prefetch_line(self.base + offset + 128)
                if not self.decode(offset, &entry):
                    return self.corrupt(offset, b"the entry that a slot names", bucket)
                if self.is_key(&entry, key, key_bytes):
                    return self._choose(&entry, snapshot_seq, out)
            if not load_u32(b + 12) & overflow_bit(key_hash):
                return 0
            bucket = bucket + 1 if bucket + 1 < self.bucket_count else 0
        return 0

    cdef int _look_up_filtered(self, const uint8_t *key, uint32_t key_bytes, uint64_t key_hash,
                               uint64_t snapshot_seq, Hit *out) except -1 nogil:
        cdef uint64_t offset
        cdef Entry entry
        offset = self.hash_offset + BUCKET_BYTES * ((key_hash >> 32) * self.bucket_count >> 32)
        seen(self, offset, BUCKET_BYTES)
        if not filter_has(self.base + offset, key_hash) or self.find(key, key_bytes, &offset):
            return 0
        self.decode(offset, &entry)
        return self._choose(&entry, snapshot_seq, out)

    cdef int _choose(self, Entry *entry, uint64_t snapshot_seq, Hit *out) except -1 nogil:
        """Walk from a key's newest version to the newest at or below the snapshot."""
        while entry.seq > snapshot_seq:
            if not self.decode_next(entry.next, entry) or not entry.older:
                return 0
        out.seq = entry.seq
        out.expires_us = entry.expires_us
        out.value = entry.value
        out.value_bytes = entry.value_bytes
        out.kind = entry.kind
        return 1

    cdef uint64_t covering_seq(self, const uint8_t *key, uint32_t key_bytes,
                               uint64_t snapshot_seq) noexcept nogil:
        if not self.has_tombstones:
            return 0
        return self.tombstones.covering(key, key_bytes, snapshot_seq)

    # The block index

    cdef uint64_t block_begin(self, uint64_t block) noexcept nogil:
        return load_u32(self.base + self.index_offset + 8 * self.block_count + 4 * block)

    cdef int index_key(self, uint64_t block, const uint8_t **key,
                       uint32_t *key_bytes) except -1 nogil:
        cdef const uint8_t *ends = self.base + self.index_offset + 12 * self.block_count + 4
        cdef uint32_t start = load_u32(ends + 4 * block - 4) if block else 0
        key[0] = ends + 4 * self.block_count + start
        key_bytes[0] = load_u32(ends + 4 * block) - start
        return 0

    cdef int index_checked(self) except -1 nogil:
        """Check the whole block index at its first use: checksums, then every offset and length."""
        cdef uint64_t i, begin = TABLE_HEADER_BYTES, end = 0, size, next_begin, next_end
        cdef const uint8_t *ends
        if self.index_seen:
            return 0
        self._check_open()
        size = self.block_count * 16 + 4 + self.index_key_bytes
        seen(self, self.index_offset, size)
        ends = self.base + self.index_offset + 12 * self.block_count + 4
        if self.block_begin(0) != begin:
            return self.corrupt(self.index_offset, b"the first block behind the header", begin)
        for i in range(self.block_count):
            next_begin = self.block_begin(i + 1)
            next_end = load_u32(ends + 4 * i)
            if (next_begin < begin + SMALLEST_BLOCK_BYTES or next_begin > self.data_end
                    or next_end < end + self.index_shared or next_end > self.index_key_bytes):
                return self.corrupt(self.index_offset, b"ascending blocks and keys", i)
            begin, end = next_begin, next_end
        if begin != self.data_end or end != self.index_key_bytes:
            return self.corrupt(self.index_offset, b"blocks and keys to their ends", begin)
        self.index_seen = True
        return 0

    cdef int64_t find_block(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef const uint8_t *heads = self.base + self.index_offset
        cdef const uint8_t *other
        cdef uint32_t other_bytes
        cdef uint64_t low = 0, high = self.block_count, middle, head
        cdef int order
        if high == 0:
            return 0
        self.index_checked()
        self.index_key(0, &other, &other_bytes)
        order = memcmp(key, other, min(<uint64_t>key_bytes, self.index_shared))
        if order < 0 or (order == 0 and key_bytes < self.index_shared):
            return 0
        if order > 0:
            return high
        head = key_head(key + self.index_shared, key_bytes - self.index_shared)
        while low < high:                   # the first block whose head is not lower
            middle = (low + high) >> 1
            if load_u64(heads + 8 * middle) < head:
                low = middle + 1
            else:
                high = middle
        high = self.block_count
        if low == high or load_u64(heads + 8 * low) != head:
            return low
        while low < high:                   # equal heads: whole keys decide
            middle = (low + high) >> 1
            self.index_key(middle, &other, &other_bytes)
            if compare(other, other_bytes, key, key_bytes) < 0:
                low = middle + 1
            else:
                high = middle
        return low

    cdef int find(self, const uint8_t *key, uint32_t key_bytes, uint64_t *offset) except -1 nogil:
        """Find the first entry with a key >= the given one; the data's end if there is none.

        Returns: how it compares with the key: 0 or 1.
        """
        cdef Entry entry
        cdef int order
        cdef uint64_t block = self.find_block(key, key_bytes)
        offset[0] = self.data_end
        if block == self.block_count:
            return 1
        self._find_restart(block, key, key_bytes, offset)
        while self.decode_next(offset[0], &entry):
            offset[0] = entry.offset
            self.compare_key(&entry, key, key_bytes, &order)
            if order >= 0:
                return order > 0
            offset[0] = entry.next
        offset[0] = self.data_end
        return 1

    cdef int _find_restart(self, uint64_t block, const uint8_t *key, uint32_t key_bytes,
                           uint64_t *offset) except -1 nogil:
        """Find the last group of a block that begins below the key, or the block's first."""
        cdef uint64_t begin = self.block_begin(block), end = self.block_begin(block + 1)
        cdef uint64_t low = 0, high, middle, place
        cdef const uint8_t *restarts
        cdef Entry entry
        cdef int order
        offset[0] = begin
        # All of it at once: each step of the search would wait for a line of its own.
        while low < end - begin and low < PREFETCH_BYTES:
            prefetch_line(self.base + end - 1 - low)
            low += 64
        low = 0
        seen(self, end - 4, 4)
        high = load_u32(self.base + end - 4)
        if high == 0 or BLOCK_END_BYTES + 4 * high > end - begin:
            return self.corrupt(end - 4, b"restarts within the block", high)
        seen(self, end - 4 - 4 * high, 4 * high)
        restarts = self.base + end - 4 - 4 * high
        while low < high:
            middle = (low + high) >> 1
            place = begin + load_u32(restarts + 4 * middle)
            if place >= end or not self.decode(place, &entry) or entry.shared:
                return self.corrupt(end, b"a whole key at each restart", place)
            self.compare_key(&entry, key, key_bytes, &order)
            if order < 0:
                offset[0] = place
                low = middle + 1
            else:
                high = middle
        return 0

    # The Python face

    def get(self, bytes key not None, uint64_t snapshot_seq):
        """Return the newest version at or below the snapshot, tombstones included, or None.

        Returns: (seq, kind, expires_us, value); range tombstones are not consulted.
        Raises:  CorruptionError; StorageError.
        """
        cdef Hit hit
        cdef const uint8_t *k = key
        self._check_open()
        if len(key) > layout.STORED_KEY_BYTES_MAX:
            return None
        if not self.lookup(k, <uint32_t>len(key), hash_bytes(k, len(key)), snapshot_seq, &hit):
            return None
        return (hit.seq, hit.kind, hit.expires_us,
                PyBytes_FromStringAndSize(<const char *>hit.value, hit.value_bytes))

    def range_tombstones(self):
        """Return this table's range tombstones, in private memory."""
        return self.tombstones

    def source(self, uint64_t snapshot_seq, bint all_versions=False):
        """Return a new source over the entries, on no entry yet; it keeps the map alive."""
        return self.source_at(snapshot_seq, all_versions)

    cdef Source source_at(self, uint64_t snapshot_seq, bint all_versions):
        cdef TableSource source
        self._check_open()
        source = TableSource.__new__(TableSource)
        source.table = self
        source.snapshot_seq = snapshot_seq
        source.all_versions = all_versions
        self.source_count += 1
        return source

    def verify(self):
        """Read the whole file again and prove every checksum and T1 to T6.

        Raises: CorruptionError, naming the first fault; StorageError.
        Cost:   O(file) reads and O(entries) time, little memory.
        """
        from ferrisdb.kernel.tablecheck import check_table
        self._check_open()
        check_table(self)

    def close(self):
        """Close the table; the map goes with the last source. Lookups then raise ClosedError.

        Owner: whoever knows that no other thread is inside a lookup.
        """
        self.closed = True
        self.bucket_count = 0
        if self.source_count == 0:
            self._release()


@cython.final
cdef class TableSource(Source):
    """The entries of one table, as a position that moves in key order."""

    def __cinit__(self):
        self.key_buffer = NULL

    def __dealloc__(self):
        free(self.key_buffer)
        free(self.marks)
        if self.table is not None:
            self.table.source_count -= 1
            if self.table.closed and self.table.source_count == 0:
                self.table._release()

    cdef int seek_first(self) except -1 nogil:
        self._stay_near(TABLE_HEADER_BYTES)
        return self._forward(TABLE_HEADER_BYTES)

    cdef int seek(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef uint64_t offset
        self.valid = False
        self.table.find(key, key_bytes, &offset)
        self._stay_near(offset)
        return self._forward(offset)

    cdef int step(self) except -1 nogil:
        return self._forward(self.entry.next)

    cdef int seek_last(self) except -1 nogil:
        self._mark_at(self.table.data_end)
        return self._backward()

    cdef int seek_before(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil:
        cdef uint64_t offset
        self.valid = False
        self.table.find(key, key_bytes, &offset)
        self._mark_at(offset)
        return self._backward()

    cdef int step_back(self) except -1 nogil:
        if not self.marked:
            self._mark_at(self.newest)
        return self._backward()

    # Reading ahead. What was asked for last begins where more is asked for: so that the disk
    # reads the one while the other is gone through.

    cdef void _stay_near(self, uint64_t offset) noexcept nogil:
        """Going forward from here, ask for nothing at first."""
        self.ahead = self.asked = offset + NEAR_BYTES
        self.window = NEAR_BYTES

    cdef void _look_ahead(self, uint64_t offset) noexcept nogil:
        cdef uint64_t begin = max(self.asked, offset)
        self.window = min(2 * self.window, <uint64_t>AHEAD_BYTES_MAX)
        self.asked = min(begin + self.window, self.table.data_end)
        self.ahead = begin if begin < self.asked else self.table.data_end
        if begin < self.asked:
            self.table.read_ahead(begin, self.asked)

    cdef void _look_back(self, uint64_t offset) noexcept nogil:
        cdef uint64_t end = min(self.asked, offset)
        self.window = min(2 * self.window, <uint64_t>AHEAD_BYTES_MAX)
        self.asked = end - self.window if end > self.window else 0
        self.ahead = end
        if self.asked < end:
            self.table.read_ahead(self.asked, end)

    cdef int _show(self) except -1 nogil:
        cdef Entry *entry = &self.entry
        cdef Entry head
        cdef uint8_t *grown
        cdef uint64_t key_bytes = <uint64_t>entry.shared + entry.suffix_bytes
        self.key = entry.suffix
        self.lasting = entry.shared == 0
        if entry.shared:
            self.table._decode_head(entry, &head)
            if key_bytes > self.key_room:
                grown = <uint8_t *>realloc(self.key_buffer, 2 * key_bytes)
                if grown == NULL:
                    with gil:
                        raise MemoryError
                self.key_buffer, self.key_room = grown, 2 * key_bytes
            memcpy(self.key_buffer, head.suffix, entry.shared)
            memcpy(self.key_buffer + entry.shared, entry.suffix, entry.suffix_bytes)
            self.key = self.key_buffer
        self.key_bytes = <uint32_t>key_bytes
        self.hit.seq = entry.seq
        self.hit.expires_us = entry.expires_us
        self.hit.value = entry.value
        self.hit.value_bytes = entry.value_bytes
        self.hit.kind = entry.kind
        self.valid = True
        return 0

    cdef int _choose(self, Entry *newest) except -1 nogil:
        """Turn a key's newest version into the newest at or below the snapshot, if there is one."""
        while newest.seq > self.snapshot_seq:
            if not self.table.decode_next(newest.next, newest) or not newest.older:
                return 0
        return 1

    cdef int _forward(self, uint64_t offset) except -1 nogil:
        """Show the first key from `offset` on that has a version to show."""
        cdef Entry *entry = &self.entry
        self.valid = False
        if self.marked:
            self._stay_near(offset)
            self.marked = False
        if offset >= self.ahead:
            self._look_ahead(offset)
        prefetch_line(self.table.base + offset + 1024)
        prefetch_line(self.table.base + offset + 1088)
        while self.table.decode_next(offset, entry):
            if self.all_versions:
                return self._show()
            offset = entry.next
            if not entry.older:
                self.newest = entry.offset
                if self._choose(entry):
                    return self._show()
        return 0

    cdef int _backward(self) except -1 nogil:
        """Show the last key before the mark that has a version to show."""
        cdef Entry *entry = &self.entry
        self.valid = False
        if self.all_versions:
            return refuse("a source of all versions goes forward only")
        while True:
            if self.mark == 0:
                if self.mark_block == 0:
                    return 0
                self._mark_block(self.mark_block - 1)
                self.mark = self.mark_count
            self.mark -= 1
            self.table.decode(self.marks[self.mark], entry)
            if not entry.older:
                self.newest = entry.offset
                if self._choose(entry):
                    return self._show()

    cdef int _mark_block(self, uint64_t block) except -1 nogil:
        """Note where each entry of a block begins."""
        cdef uint64_t offset = self.table.block_begin(block)
        cdef uint64_t end = self.table.block_begin(block + 1)
        cdef uint64_t room
        cdef uint32_t *grown
        cdef Entry entry
        self.marked = False
        self.mark_count = 0
        if offset < self.ahead:
            self._look_back(offset)
        while self.table.decode(offset, &entry):
            if self.mark_count == self.mark_room:
                room = 2 * self.mark_room + 64
                grown = <uint32_t *>realloc(self.marks, room * sizeof(uint32_t))
                if grown == NULL:
                    with gil:
                        raise MemoryError
                self.marks, self.mark_room = grown, room
            self.marks[self.mark_count] = <uint32_t>offset
            self.mark_count += 1
            offset = entry.next
        if entry.next != end or self.mark_count == 0:
            return self.table.corrupt(offset, b"a block that ends where the next begins", end)
        self.mark_block = block
        self.marked = True
        return 0

    cdef int _mark_at(self, uint64_t offset) except -1 nogil:
        """Set the mark on the entry at `offset`, or behind the last one."""
        cdef uint64_t low = 0, high = self.table.block_count, middle
        self.mark = self.mark_block = self.mark_count = 0
        self.marked = False
        self.ahead = self.asked = offset - NEAR_BYTES if offset > NEAR_BYTES else 0
        self.window = NEAR_BYTES
        if high == 0:
            return 0
        self.table.index_checked()
        while low < high:                   # the first block behind the offset
            middle = (low + high) >> 1
            if self.table.block_begin(middle) <= offset:
                low = middle + 1
            else:
                high = middle
        self._mark_block(low - 1 if low else 0)
        low, high = 0, self.mark_count
        while low < high:
            middle = (low + high) >> 1
            if self.marks[middle] < offset:
                low = middle + 1
            else:
                high = middle
        self.mark = low
        return 0
