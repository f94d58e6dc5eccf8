# Operations and WAL records as bytes. Authority for the layout: ferrisdb/format/wal.py.
#
# Operation (unaligned, little-endian), the same in a ring and in a WAL record:
#   0  u32  key_bytes in bits 0-23, kind in bits 24-31
#   4  u32  value_bytes
#   8  u64  expires_us; only where the kind is KIND_PUT_EXPIRING (absolute, µs since the epoch)
#           or REQUEST_PUT_TTL (relative, µs; only in a ring: the coordinator makes it absolute)
#   .  key, value (for KIND_RANGE_DELETE: start, end; an empty end means no upper bound)
#
# REQUEST_ATOMIC_OP, only in a ring: see atomics.pxd.
#
# Record (8-aligned in the file, padded with zeros to 8):
#   0  u32  crc: CRC-32C, seed crc32c(0, salt u64 + file offset u64), over bytes 4..end
#   4  u32  ops_bytes
#   8  u64  first_seq: the operations have first_seq, first_seq + 1, ...
#  16  u32  count of operations; may be 0
#  20  u16  flags, zero
#  22  u16  reply_bytes
#  24  u64  synced_to: every byte of this file below it was durable when the record was written
#  32  u64  time_us: the group's time T
#  40  16 bytes client id
#  56  u64  request_no
#  64  u64  unanswered_no: the client's lowest unanswered request when it sent this
#  72  operations (ops_bytes), reply (reply_bytes), zeros to a multiple of 8
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ferrisdb.kernel.cpu cimport crc32c, load_u32, load_u64, put_u32, put_u64
from ferrisdb.kernel.source cimport KIND_DELETE, KIND_PUT, KIND_PUT_EXPIRING, KIND_RANGE_DELETE

cdef enum:
    WAL_RECORD_HEADER_BYTES = 72
    WAL_FIRST_RECORD_OFFSET = 128
    REQUEST_PUT_TTL = 0x44
    STORED_KEY_BYTES_MAX = 65_535 + 5
    STORED_VALUE_BYTES_MAX = 16 << 20

cdef struct Op:
    uint8_t kind
    const uint8_t *key
    uint32_t key_bytes
    const uint8_t *value
    uint32_t value_bytes
    uint64_t expires_us

cdef struct WalRecord:
    uint64_t offset
    uint64_t total_bytes        # header, operations, reply, padding
    uint64_t first_seq
    uint32_t count
    uint32_t ops_bytes
    uint16_t reply_bytes
    uint64_t synced_to
    uint64_t time_us
    uint64_t request_no
    uint64_t unanswered_no
    const uint8_t *client_id    # 16 bytes
    const uint8_t *ops
    const uint8_t *reply


cdef inline uint64_t wal_record_bytes(uint64_t ops_bytes, uint64_t reply_bytes) noexcept nogil:
    return (WAL_RECORD_HEADER_BYTES + ops_bytes + reply_bytes + 7) & ~<uint64_t>7


cdef inline uint32_t wal_seed(uint64_t offset, uint64_t salt) noexcept nogil:
    cdef uint64_t words[2]
    words[0] = salt
    words[1] = offset
    return crc32c(0, <const uint8_t *>words, 16)


cdef inline void wal_seal(uint8_t *record, uint64_t total_bytes, uint64_t offset,
                          uint64_t salt) noexcept nogil:
    # Call last: writes the checksum over everything else, padding included.
    put_u32(record, crc32c(wal_seed(offset, salt), record + 4, total_bytes - 4))


cdef inline bint wal_parse(const uint8_t *base, uint64_t file_bytes, uint64_t offset, uint64_t salt,
                           WalRecord *out) noexcept nogil:
    # True if a whole record with a right checksum stands at offset. Operations are not judged.
    cdef uint64_t ops_bytes, reply_bytes, total
    cdef const uint8_t *r = base + offset
    if offset + WAL_RECORD_HEADER_BYTES > file_bytes:
        return False
    ops_bytes = load_u32(r + 4)
    reply_bytes = load_u32(r + 20) >> 16
    total = wal_record_bytes(ops_bytes, reply_bytes)
    if total > file_bytes - offset:
        return False
    if load_u32(r) != crc32c(wal_seed(offset, salt), r + 4, total - 4):
        return False
    out.offset = offset
    out.total_bytes = total
    out.first_seq = load_u64(r + 8)
    out.count = load_u32(r + 16)
    out.ops_bytes = <uint32_t>ops_bytes
    out.reply_bytes = <uint16_t>reply_bytes
    out.synced_to = load_u64(r + 24)
    out.time_us = load_u64(r + 32)
    out.client_id = r + 40
    out.request_no = load_u64(r + 56)
    out.unanswered_no = load_u64(r + 64)
    out.ops = r + WAL_RECORD_HEADER_BYTES
    out.reply = out.ops + ops_bytes
    return True


cdef inline uint32_t op_parse(const uint8_t *p, uint64_t left, Op *out) noexcept nogil:
    # Bytes that the operation takes, or 0 if there is no well-formed one within `left` bytes.
    cdef uint64_t need = 8
    cdef uint32_t word
    if left < 8:
        return 0
    word = load_u32(p)
    out.kind = word >> 24
    out.key_bytes = word & 0xFFFFFF
    out.value_bytes = load_u32(p + 4)
    out.expires_us = 0
    if out.key_bytes > STORED_KEY_BYTES_MAX or out.value_bytes > STORED_VALUE_BYTES_MAX:
        return 0
    if out.kind == KIND_PUT_EXPIRING or out.kind == REQUEST_PUT_TTL:
        if left < 16:
            return 0
        out.expires_us = load_u64(p + 8)
        need = 16
    elif out.kind == KIND_DELETE:
        if out.value_bytes:
            return 0
    elif out.kind != KIND_PUT and out.kind != KIND_RANGE_DELETE:
        return 0
    out.key = p + need
    out.value = out.key + out.key_bytes
    need += <uint64_t>out.key_bytes + out.value_bytes
    return <uint32_t>need if need <= left else 0


cdef inline uint32_t op_header_bytes(uint8_t kind) noexcept nogil:
    return 16 if kind == KIND_PUT_EXPIRING or kind == REQUEST_PUT_TTL else 8


cdef inline uint8_t *op_write(uint8_t *p, uint8_t kind, const uint8_t *key, uint32_t key_bytes,
                              const uint8_t *value, uint32_t value_bytes,
                              uint64_t expires_us) noexcept nogil:
    # Returns the byte behind the operation; the caller has made sure of the room.
    put_u32(p, key_bytes | <uint32_t>kind << 24)
    put_u32(p + 4, value_bytes)
    p += 8
    if kind == KIND_PUT_EXPIRING or kind == REQUEST_PUT_TTL:
        put_u64(p, expires_us)
        p += 8
    memcpy(p, key, key_bytes)
    memcpy(p + key_bytes, value, value_bytes)
    return p + key_bytes + value_bytes
