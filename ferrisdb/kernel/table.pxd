# Reads one table. Authority for the layout: ferrisdb/format/sstable.py.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ferrisdb.kernel.source cimport Hit, Source
from ferrisdb.kernel.tablefile cimport TableFile
from ferrisdb.kernel.tombstones cimport RangeTombstones

# One entry, decoded. Pointers into the map.
cdef struct Entry:
    uint64_t offset             # of its first byte in the file
    uint64_t next               # the byte behind it
    uint64_t head               # offset of the entry that has the key's shared bytes
    uint64_t seq
    uint64_t expires_us
    const uint8_t *suffix       # the key without its shared bytes
    const uint8_t *value
    uint32_t suffix_bytes
    uint32_t value_bytes
    uint32_t shared
    uint8_t kind
    bint older                  # same key as the entry before

cdef class Table(TableFile):
    cdef uint64_t source_count  # sources that still read the map
    cdef uint64_t data_end, hash_offset, bucket_count
    cdef uint64_t index_offset, block_count, index_key_bytes, index_shared
    cdef readonly uint64_t min_seq, max_seq, file_number
    cdef readonly bint has_tombstones
    cdef bint filtered          # the buckets are blocks of a Bloom filter
    cdef RangeTombstones tombstones
    cdef readonly object properties
    # For several keys or tables in flight: prefetch each bucket, then each entry, then look up.
    cdef void prefetch(self, uint64_t key_hash) noexcept nogil
    cdef void prefetch_entry(self, uint64_t key_hash) noexcept nogil
    # 1: a version at or below the snapshot, tombstones included; 0: none. Point entries only.
    cdef int lookup(self, const uint8_t *key, uint32_t key_bytes, uint64_t key_hash,
                    uint64_t snapshot_seq, Hit *out) except -1 nogil
    # Newest range tombstone at or below the snapshot over the key; 0: none.
    cdef uint64_t covering_seq(self, const uint8_t *key, uint32_t key_bytes,
                               uint64_t snapshot_seq) noexcept nogil
    # 1: an entry stands at the offset; 0: a block ends there and `next` is where the next begins.
    cdef int decode(self, uint64_t offset, Entry *out) except -1 nogil
    # A source over the entries, on no entry yet.
    cdef Source source_at(self, uint64_t snapshot_seq, bint all_versions)
    cdef int _end_entry(self, Entry *entry) except -1 nogil
    # The entry behind `offset`, over block ends. 0: there is none; `offset` is then the data's end.
    cdef int decode_next(self, uint64_t offset, Entry *out) except -1 nogil
    cdef int is_key(self, Entry *entry, const uint8_t *key, uint32_t key_bytes) except -1 nogil
    # To the first entry with a key >= the given one; 0: it is the key itself, 1: it isn't.
    cdef int find(self, const uint8_t *key, uint32_t key_bytes, uint64_t *offset) except -1 nogil
    cdef int _find_restart(self, uint64_t block, const uint8_t *key, uint32_t key_bytes,
                           uint64_t *offset) except -1 nogil
    cdef int _look_up_filtered(self, const uint8_t *key, uint32_t key_bytes, uint64_t key_hash,
                               uint64_t snapshot_seq, Hit *out) except -1 nogil
    # Index of the first block that can hold a key >= the given one; block_count: none.
    cdef int64_t find_block(self, const uint8_t *key, uint32_t key_bytes) except -1 nogil
    cdef int compare_key(self, Entry *entry, const uint8_t *key, uint32_t key_bytes,
                         int *order) except -1 nogil
    cdef int index_key(self, uint64_t block, const uint8_t **key,
                       uint32_t *key_bytes) except -1 nogil
    cdef uint64_t block_begin(self, uint64_t block) noexcept nogil
    cdef int index_checked(self) except -1 nogil
    cdef bint index_seen
    cdef int _decode_head(self, Entry *entry, Entry *head) except -1 nogil
    cdef int _choose(self, Entry *entry, uint64_t snapshot_seq, Hit *out) except -1 nogil
    cdef bytes _read_tail(self, footer)
    cdef _check_header(self, footer, file_number)
    cdef _take_properties(self, bytes tail, footer)
    cdef list _read_ranges(self)

cdef class TableSource(Source):
    cdef Table table
    cdef Entry entry            # what is shown
    cdef uint64_t newest        # offset of the newest version of the key that is shown
    cdef uint8_t *key_buffer
    cdef uint64_t key_room
    # Going back: the entries of one block, and which of them `newest` is.
    cdef uint32_t *marks
    cdef uint64_t mark_room, mark_count, mark, mark_block
    cdef bint marked
    # Reading ahead: where more is asked for, up to where it has been, how much at once.
    cdef uint64_t ahead, asked, window
    cdef void _stay_near(self, uint64_t offset) noexcept nogil
    cdef void _look_ahead(self, uint64_t offset) noexcept nogil
    cdef void _look_back(self, uint64_t offset) noexcept nogil
    cdef int _show(self) except -1 nogil
    cdef int _forward(self, uint64_t offset) except -1 nogil
    cdef int _choose(self, Entry *newest) except -1 nogil
    cdef int _backward(self) except -1 nogil
    cdef int _mark_block(self, uint64_t block) except -1 nogil
    cdef int _mark_at(self, uint64_t offset) except -1 nogil
