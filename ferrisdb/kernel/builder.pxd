# Writes one table, front to back. Authority for the layout: ferrisdb/format/sstable.py.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ferrisdb.kernel.source cimport Source
from ferrisdb.kernel.tombstones cimport RangeTombstones

cdef struct Bytes:              # a growing array of bytes
    uint8_t *at
    uint64_t used
    uint64_t room

cdef class TableBuilder:
    cdef object file, origin
    cdef bint finished, broken, bottom, filtered
    cdef uint64_t file_number, created_us, gc_floor, block_bytes
    cdef bytes database_id
    cdef list ranges
    cdef Bytes out              # what the file hasn't got yet, from the file's offset `out_offset`
    cdef uint64_t out_offset
    cdef Bytes page_crcs        # u32 each
    cdef Bytes last_key, head_key
    cdef uint64_t last_seq, head_offset
    cdef Bytes hashes, places   # u64 and u32 for each unique key
    cdef Bytes expiries         # u64 for each expiring entry
    cdef Bytes block_offsets, index_ends, index_keys, restarts
    cdef uint64_t block_offset, group_entries
    cdef bint in_block
    cdef uint64_t entry_count, key_count, delete_count, expiring_count
    cdef uint64_t min_seq, max_seq, raw_key_bytes, raw_value_bytes, expires_us_min
    cdef Bytes first_key
    cdef uint64_t data_end
    cdef readonly bint exhausted    # the last build_from reached its source's end
    cdef int stop
    cdef Bytes stop_key
    # One entry; keys ascending, sequences of a key descending. Raises UsageError, nothing added,
    # or what the file does.
    cdef int put(self, const uint8_t *key, uint32_t key_bytes, uint64_t seq, uint8_t kind,
                 uint64_t expires_us, const uint8_t *value, uint32_t value_bytes) except -1 nogil
    cdef int _write_entry(self, const uint8_t *key, uint32_t key_bytes, uint64_t seq, uint8_t kind,
                          uint64_t expires_us, const uint8_t *value, uint32_t value_bytes,
                          bint older) except -1 nogil
    cdef int _end_block(self, const uint8_t *next_key, uint32_t next_bytes) except -1 nogil
    cdef int _flush(self, bint all_of_it) except -1 nogil
    cdef int _append(self, uint64_t count) except -1
    cdef int _pad(self, uint64_t unit) except -1
    cdef int _check_usable(self) except -1
    cdef int64_t _drain(self, Source source, RangeTombstones tombstones, uint64_t expired_us,
                        uint64_t bytes_max, const uint8_t *limit, uint64_t limit_bytes,
                        uint64_t steps_max) except -1 nogil
    cdef int _write_hash_index(self, uint64_t bucket_count) except -1 nogil
    cdef int _write_filter(self, uint64_t block_count) except -1 nogil
    cdef int _write_block_index(self, uint64_t index_shared) except -1 nogil
