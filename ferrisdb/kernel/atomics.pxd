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
# Reply of a request of type REQUEST_ATOMIC, 16 bytes: u32 how many of its atomic operations wrote
# something, u32 zero, i64 the result of its last ADD (the sum), APPEND, AND, OR or XOR (bytes of
# the value).

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
