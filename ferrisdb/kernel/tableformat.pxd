# What builder and reader of tables agree on. Authority: ferrisdb/format/sstable.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ferrisdb.kernel.cpu cimport load_u64

cdef extern from *:
    """
    #if defined(__x86_64__)
    #include <emmintrin.h>
    #endif
    /* Which of a bucket's 12 fingerprints equal fp: bit i for slot i. */
    static inline uint32_t fdb_bucket_match(const unsigned char *bucket, unsigned char fp) {
    #if defined(__x86_64__)
        __m128i slots = _mm_load_si128((const __m128i *)bucket);
        __m128i found = _mm_cmpeq_epi8(slots, _mm_set1_epi8((char)fp));
        return (uint32_t)_mm_movemask_epi8(found) & 0xFFF;
    #else
        uint32_t mask = 0;
        for (int i = 0; i < 12; i++) mask |= (uint32_t)(bucket[i] == fp) << i;
        return mask;
    #endif
    }
    static inline uint64_t fdb_big_endian(uint64_t v) {
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        return __builtin_bswap64(v);
    #else
        return v;
    #endif
    }
    """
    uint32_t bucket_match "fdb_bucket_match"(const uint8_t *bucket, uint8_t fp) nogil
    uint64_t big_endian "fdb_big_endian"(uint64_t v) nogil
    int trailing_zeros "__builtin_ctz"(unsigned int v) nogil

cdef enum:
    TABLE_HEADER_BYTES = 64
    TABLE_PAGE_BYTES = 4096
    PAGE_SHIFT = 12
    GROUP_SHIFT = 10            # page checksums a page of them holds, as a power of two
    RESTART_ENTRIES = 4
    # First byte of an entry: kind in bits 0-2 (0 ends a block), then
    ENTRY_KIND_MASK = 0x07
    ENTRY_OLDER = 0x08          # same key as the entry before, older version
    ENTRY_WIDE = 0x10           # long lengths
    ENTRY_SEQ = 0x20            # a sequence follows; without it: elided, reads as 0
    ENTRY_SHARED = 0x40         # the key's first bytes stand at the group's first entry
    ENTRY_RESERVED = 0x80
    BLOCK_END_BYTES = 9         # beside 4 for each restart
    BUCKET_BYTES = 64
    BUCKET_SLOTS = 12
    BUCKET_KEYS = 9             # aimed at, on average
    FILTER_KEYS = 51            # of a block of the Bloom filter: 10 bits each
    FILTER_PROBES = 6


cdef inline uint8_t fingerprint(uint64_t key_hash) noexcept nogil:
    # 0 marks an empty slot.
    return <uint8_t>key_hash if <uint8_t>key_hash else 1


cdef inline uint32_t overflow_bit(uint64_t key_hash) noexcept nogil:
    # Set in each full bucket that a key with this hash was turned away from.
    return <uint32_t>1 << (key_hash >> 8 & 31)


cdef inline uint64_t filter_bits(uint64_t key_hash) noexcept nogil:
    # Of a key's bits in its block, 9 bits of this each; mixed anew, for the hash chose the block.
    return key_hash * <uint64_t>0x9E3779B97F4A7C15U


cdef inline void filter_add(uint8_t *block, uint64_t key_hash) noexcept nogil:
    cdef uint64_t bits = filter_bits(key_hash)
    cdef int _probe
    for _probe in range(FILTER_PROBES):
        block[(bits & 511) >> 3] |= <uint8_t>(1 << (bits & 7))
        bits >>= 9


cdef inline bint filter_has(const uint8_t *block, uint64_t key_hash) noexcept nogil:
    cdef uint64_t bits = filter_bits(key_hash)
    cdef int _probe
    for _probe in range(FILTER_PROBES):
        if not block[(bits & 511) >> 3] & (1 << (bits & 7)):
            return False
        bits >>= 9
    return True


cdef inline uint64_t key_head(const uint8_t *key, uint64_t key_bytes) noexcept nogil:
    # The first 8 bytes as a number whose order is the keys' order; zeros behind a short key.
    cdef uint64_t head = 0
    cdef uint64_t i
    if key_bytes >= 8:
        return big_endian(load_u64(key))
    for i in range(key_bytes):
        head |= <uint64_t>key[i] << (56 - 8 * i)
    return head
