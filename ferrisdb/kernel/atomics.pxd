# Atomic operations: what a client sends, and how the coordinator evaluates it.
#
# Operation in a ring (unaligned, little-endian); never in a WAL, which takes its result:
#   0  u32  key_bytes in bits 0-23, REQUEST_ATOMIC_OP in bits 24-31
#   4  u32  payload_bytes: operand, expected and hint together
#   8  u8   operation, ATOMIC_*
#   9  u8   zero
#  10  u16  flags, AtomicFlag
#  12  u32  operand_bytes
#  16  u32  expected_bytes
#  20  u32  zero
#  24  u64  expires_us: of SET and EXPIRE, absolute or (flag) relative; 0 none
#  32  u64  hint_expires_us: the hint's expiry, 0 none
#  40  key, operand, expected, hint (the rest of the payload)
#
# The hint is the key's value at the request's snapshot sequence, for where no memtable has a newer
# one; with a hint the request carries its generation and sequence.
#
# The operand of ADD is ASCII decimal, too, as the value; of the others bytes; of EXPIRE and REMOVE
# none.
#
# Reply of a request of type REQUEST_ATOMIC, 16 bytes: u32 how many of its atomic operations wrote
# something; u32 1 if the result doesn't fit 64 bits, else 0; i64 the result of its last ADD (the
# sum), APPEND, AND, OR or XOR (bytes of the value).

cpdef enum Atomic:
    ATOMIC_ADD = 1              # ASCII decimal, 64 bits signed; absent: 0
    ATOMIC_ADD_WIDE = 2         # ASCII decimal of any length
    ATOMIC_APPEND = 3
    ATOMIC_MINIMUM = 4          # of the bytes, in key order; absent: the operand
    ATOMIC_MAXIMUM = 5
    ATOMIC_AND = 6              # the shorter one filled with zero bytes; absent: no bytes
    ATOMIC_OR = 7
    ATOMIC_XOR = 8
    ATOMIC_SET = 9              # put, on the conditions of its flags
    ATOMIC_EXPIRE = 10          # another expiry (0: none) for what is there
    ATOMIC_REMOVE = 11          # delete, if there is something

cpdef enum AtomicFlag:
    ATOMIC_RELATIVE = 1         # expires_us is relative to T
    ATOMIC_HINT = 2             # there is a hint: the key was present, with this value
    ATOMIC_HINT_ABSENT = 4      # there is a hint: the key was absent
    ATOMIC_IF_ABSENT = 8        # SET: only where there is nothing; EXPIRE: where it has no expiry
    ATOMIC_IF_PRESENT = 16      # SET: only where there is something; EXPIRE: where it has an expiry
    ATOMIC_IF_EQUAL = 32        # SET and REMOVE: only where the value equals `expected`
    ATOMIC_KEEP_TTL = 64        # SET: what was there keeps its expiry
    ATOMIC_IF_LATER = 128       # EXPIRE: only if later than now's; no expiry is the latest
    ATOMIC_IF_EARLIER = 256     # EXPIRE: only if earlier than now's

cdef enum:
    REQUEST_ATOMIC_OP = 0x50
    ATOMIC_HEADER_BYTES = 40
    ATOMIC_REPLY_BYTES = 16

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ferrisdb.kernel.cpu cimport load_u32, load_u64
from ferrisdb.kernel.wal cimport STORED_KEY_BYTES_MAX, STORED_VALUE_BYTES_MAX

cdef struct AtomicOp:
    uint8_t operation
    uint16_t flags
    uint32_t key_bytes
    uint32_t operand_bytes
    uint32_t expected_bytes
    uint32_t hint_bytes
    uint64_t expires_us
    uint64_t hint_expires_us
    const uint8_t *key
    const uint8_t *operand
    const uint8_t *expected
    const uint8_t *hint

# A request's reply, as it stands in the completion.
cdef struct AtomicReply:
    uint32_t applied
    uint32_t unfit
    int64_t result

# What the key holds when the operation's turn comes; an expired value is none.
cdef struct Held:
    const uint8_t *value
    uint64_t expires_us
    uint32_t value_bytes
    bint present


cdef inline uint32_t atomic_parse(const uint8_t *p, uint64_t left, AtomicOp *out) noexcept nogil:
    # Bytes that the operation takes, or 0 if there is no well-formed one within `left` bytes.
    cdef uint32_t word, payload
    if left < ATOMIC_HEADER_BYTES:
        return 0
    word = load_u32(p)
    out.key_bytes = word & 0xFFFFFF
    payload = load_u32(p + 4)
    out.operation = p[8]
    out.flags = load_u32(p + 8) >> 16
    out.operand_bytes = load_u32(p + 12)
    out.expected_bytes = load_u32(p + 16)
    out.expires_us = load_u64(p + 24)
    out.hint_expires_us = load_u64(p + 32)
    if (word >> 24 != REQUEST_ATOMIC_OP or out.key_bytes > STORED_KEY_BYTES_MAX
            or out.operation < ATOMIC_ADD or out.operation > ATOMIC_REMOVE
            or out.flags >= 2 * ATOMIC_IF_EARLIER
            or out.operand_bytes > STORED_VALUE_BYTES_MAX
            or out.expected_bytes > STORED_VALUE_BYTES_MAX
            or <uint64_t>out.operand_bytes + out.expected_bytes > payload
            or payload - out.operand_bytes - out.expected_bytes > STORED_VALUE_BYTES_MAX
            or <uint64_t>payload + out.key_bytes > left - ATOMIC_HEADER_BYTES
            or (out.flags & ATOMIC_RELATIVE and out.expires_us >> 60)):
        return 0
    out.hint_bytes = payload - out.operand_bytes - out.expected_bytes
    out.key = p + ATOMIC_HEADER_BYTES
    out.operand = out.key + out.key_bytes
    out.expected = out.operand + out.operand_bytes
    out.hint = out.expected + out.expected_bytes
    return ATOMIC_HEADER_BYTES + out.key_bytes + payload


cdef inline uint64_t atomic_room(const AtomicOp *op, const Held *held) noexcept nogil:
    # The most that `atomic_apply` writes.
    return 16 + 32 + <uint64_t>op.key_bytes + op.operand_bytes + held.value_bytes

# A whole number as Redis writes it, 64 bits signed; False: it is none.
cdef bint parse_i64(const uint8_t *p, uint32_t n, int64_t *out) noexcept nogil
# Up to 20 bytes; returns how many.
cdef uint32_t format_i64(int64_t value, uint8_t *out) noexcept nogil

# Writes the resulting put or delete to `out`, which has atomic_room; returns its bytes, 0: nothing
# is to be written; below 0: minus the wire code that answers the request.
cdef int64_t atomic_apply(const AtomicOp *op, const Held *held, uint64_t time_us, uint8_t *out,
                          AtomicReply *reply) noexcept nogil
