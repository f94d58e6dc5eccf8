# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Evaluate atomic operations: what a key holds and an operation give, as the put to be logged.

Layouts are in atomics.pxd. One evaluation serves the coordinator, which applies operations in
commit order, and a transaction that reads a key it has such operations pending for.

Every operation but SET keeps the key's expiry; an absent key has none. Integers are written as
Redis's are: an optional minus and digits, no leading zero, no blank.

Source: the operations are FoundationDB's atomic ones and Redis's INCR, APPEND, SET and EXPIRE.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from ferrisdb.kernel.cpu cimport compare, put_u32, put_u64
from ferrisdb.kernel.source cimport KIND_DELETE, KIND_PUT, KIND_PUT_EXPIRING
from ferrisdb.kernel.wal cimport STORED_VALUE_BYTES_MAX, op_parse, op_write
from ferrisdb.kernel.wal cimport Op as LoggedOp

from ferrisdb.errors import ProtocolError, by_wire_code

cdef enum:
    CODE_VALUE_TOO_LARGE = 13
    CODE_NOT_AN_INTEGER = 70
    CODE_INTEGER_OVERFLOW = 71
    WIDE_DIGITS_MAX = 1 << 16


cdef bint parse_i64(const uint8_t *p, uint32_t n, int64_t *out) noexcept nogil:
    cdef bint negative = n > 0 and p[0] == c'-'
    cdef uint32_t i = negative
    cdef uint64_t value = 0, limit = (<uint64_t>1 << 63) - (0 if negative else 1), digit
    if n == i or n - i > 19 or (p[i] == c'0' and n != 1):
        return False
    while i < n:
        if p[i] < c'0' or p[i] > c'9':
            return False
        digit = p[i] - c'0'
        if value > (limit - digit) // 10:
            return False
        value = value * 10 + digit
        i += 1
    out[0] = <int64_t>(<uint64_t>0 - value) if negative else <int64_t>value
    return True


cdef uint32_t format_i64(int64_t value, uint8_t *out) noexcept nogil:
    cdef uint8_t digits[20]
    cdef uint64_t rest = <uint64_t>0 - <uint64_t>value if value < 0 else <uint64_t>value
    cdef uint32_t n = 0, at = 0
    while True:
        digits[n] = c'0' + rest % 10
        n += 1
        rest //= 10
        if rest == 0:
            break
    if value < 0:
        out[0] = c'-'
        at = 1
    while n:
        n -= 1
        out[at] = digits[n]
        at += 1
    return at


cdef int64_t _add(const AtomicOp *op, const Held *held, uint8_t *value,
                  int64_t *result) noexcept nogil:
    cdef int64_t a = 0, b
    cdef int64_t top = 0x7FFFFFFFFFFFFFFF
    if not parse_i64(op.operand, op.operand_bytes, &b):
        return -CODE_NOT_AN_INTEGER
    if held.present and not parse_i64(held.value, held.value_bytes, &a):
        return -CODE_NOT_AN_INTEGER
    if (b > 0 and a > top - b) or (b < 0 and a < -top - 1 - b):
        return -CODE_INTEGER_OVERFLOW
    result[0] = a + b
    return format_i64(a + b, value)


cdef struct Decimal:
    const uint8_t *digits       # most significant first, no leading zero; none: zero
    uint32_t count
    bint negative


cdef bint _parse_wide(const uint8_t *p, uint32_t n, Decimal *out) noexcept nogil:
    cdef uint32_t i
    out.negative = n > 0 and p[0] == c'-'
    out.digits = p + out.negative
    out.count = n - out.negative
    if out.count == 0 or out.count > WIDE_DIGITS_MAX or (out.digits[0] == c'0' and n != 1):
        return False
    for i in range(out.count):
        if out.digits[i] < c'0' or out.digits[i] > c'9':
            return False
    if out.digits[0] == c'0':
        out.count = 0
    return True


cdef int64_t _add_wide(const AtomicOp *op, const Held *held, uint8_t *value) noexcept nogil:
    # Digit by digit from the lowest: |a| + |b|, or the larger of both minus the smaller one.
    cdef Decimal a, b, swap
    cdef uint32_t i, width, at, zeros
    cdef int digit, carry = 0, order
    cdef bint minus
    a.digits, a.count, a.negative = NULL, 0, False
    if not _parse_wide(op.operand, op.operand_bytes, &b):
        return -CODE_NOT_AN_INTEGER
    if held.present and not _parse_wide(held.value, held.value_bytes, &a):
        return -CODE_NOT_AN_INTEGER
    minus = a.negative != b.negative
    order = (a.count > b.count) - (a.count < b.count)
    if order == 0 and a.count:
        order = compare(a.digits, a.count, b.digits, b.count)
    if order < 0:
        swap = a
        a = b
        b = swap
    width = a.count + 1
    for i in range(width):
        digit = (a.digits[a.count - 1 - i] - c'0' if i < a.count else 0) + carry
        if i < b.count:
            digit += -(b.digits[b.count - 1 - i] - c'0') if minus else b.digits[
                b.count - 1 - i] - c'0'
        carry = 0
        if digit < 0:
            digit += 10
            carry = -1
        elif digit > 9:
            digit -= 10
            carry = 1
        # One place is left for the sign.
        value[width - i] = c'0' + digit
    zeros = 0
    while zeros < width and value[1 + zeros] == c'0':
        zeros += 1
    if zeros == width:
        value[0] = c'0'
        return 1
    at = 1 + zeros
    if a.negative:
        at -= 1
        value[at] = c'-'
    width = width + 1 - at
    if at:
        for i in range(width):
            value[i] = value[at + i]
    return width


cdef int64_t _combine(const AtomicOp *op, const Held *held, uint8_t *value) noexcept nogil:
    cdef uint32_t n = held.value_bytes if held.present else 0, i
    cdef uint32_t width = max(n, op.operand_bytes)
    if n:
        memcpy(value, held.value, n)
    memset(value + n, 0, width - n)
    if op.operation == ATOMIC_AND:
        for i in range(op.operand_bytes):
            value[i] &= op.operand[i]
        memset(value + op.operand_bytes, 0, width - op.operand_bytes)
    elif op.operation == ATOMIC_OR:
        for i in range(op.operand_bytes):
            value[i] |= op.operand[i]
    else:
        for i in range(op.operand_bytes):
            value[i] ^= op.operand[i]
    return width


cdef bint _equals(const AtomicOp *op, const Held *held) noexcept nogil:
    return held.present and compare(
        held.value, held.value_bytes, op.expected, op.expected_bytes) == 0


cdef bint _expires_so(const AtomicOp *op, const Held *held, uint64_t expires_us) noexcept nogil:
    # Whether EXPIRE's conditions hold and it changes anything.
    cdef uint64_t never = 0xFFFFFFFFFFFFFFFF
    cdef uint64_t before = held.expires_us or never, after = expires_us or never
    if op.flags & ATOMIC_IF_ABSENT and held.expires_us:
        return False
    if op.flags & ATOMIC_IF_PRESENT and held.expires_us == 0:
        return False
    if op.flags & ATOMIC_IF_LATER and after <= before:
        return False
    if op.flags & ATOMIC_IF_EARLIER and after >= before:
        return False
    return expires_us != 0 or held.expires_us != 0


cdef int64_t _write(const AtomicOp *op, uint8_t *out, int64_t value_bytes,
                    uint64_t expires_us) noexcept nogil:
    # The head and key of a put whose value stands behind them already.
    cdef uint8_t kind = KIND_PUT_EXPIRING if expires_us else KIND_PUT
    cdef uint32_t head = 16 if expires_us else 8
    if value_bytes > STORED_VALUE_BYTES_MAX:
        return -CODE_VALUE_TOO_LARGE
    put_u32(out, op.key_bytes | <uint32_t>kind << 24)
    put_u32(out + 4, <uint32_t>value_bytes)
    if expires_us:
        put_u64(out + 8, expires_us)
    memcpy(out + head, op.key, op.key_bytes)
    return head + op.key_bytes + value_bytes


cdef int64_t atomic_apply(const AtomicOp *op, const Held *held, uint64_t time_us, uint8_t *out,
                          AtomicReply *reply) noexcept nogil:
    cdef uint64_t expires_us = op.expires_us
    cdef uint8_t *value
    cdef int64_t value_bytes
    if op.flags & ATOMIC_RELATIVE:
        expires_us += time_us
    if op.operation == ATOMIC_SET or op.operation == ATOMIC_REMOVE:
        if op.flags & ATOMIC_IF_ABSENT and held.present:
            return 0
        if op.flags & ATOMIC_IF_PRESENT and not held.present:
            return 0
        if op.flags & ATOMIC_IF_EQUAL and not _equals(op, held):
            return 0
        if op.operation == ATOMIC_REMOVE and not held.present:
            return 0
        if op.flags & ATOMIC_KEEP_TTL:
            expires_us = held.expires_us if held.present else 0
    elif op.operation == ATOMIC_EXPIRE:
        if not held.present or not _expires_so(op, held, expires_us):
            return 0
    elif op.operation == ATOMIC_MINIMUM or op.operation == ATOMIC_MAXIMUM:
        value_bytes = compare(op.operand, op.operand_bytes, held.value,
                              held.value_bytes) if held.present else 0
        if held.present and (value_bytes >= 0 if op.operation == ATOMIC_MINIMUM
                             else value_bytes <= 0):
            return 0
    if op.operation != ATOMIC_SET and op.operation != ATOMIC_EXPIRE:
        expires_us = held.expires_us if held.present else 0
    if op.operation == ATOMIC_REMOVE or (
            op.operation == ATOMIC_EXPIRE and expires_us and expires_us <= time_us):
        return op_write(out, KIND_DELETE, op.key, op.key_bytes, NULL, 0, 0) - out
    value = out + (16 if expires_us else 8) + op.key_bytes
    if op.operation == ATOMIC_ADD:
        value_bytes = _add(op, held, value, &reply.result)
        reply.unfit = 0
    elif op.operation == ATOMIC_ADD_WIDE:
        value_bytes = _add_wide(op, held, value)
        reply.unfit = value_bytes > 0 and not parse_i64(value, <uint32_t>value_bytes,
                                                        &reply.result)
    elif op.operation == ATOMIC_EXPIRE or op.operation == ATOMIC_APPEND:
        value_bytes = held.value_bytes if held.present else 0
        if value_bytes + op.operand_bytes > STORED_VALUE_BYTES_MAX:
            return -CODE_VALUE_TOO_LARGE
        if value_bytes:
            memcpy(value, held.value, value_bytes)
        if op.operation == ATOMIC_APPEND:
            memcpy(value + value_bytes, op.operand, op.operand_bytes)
            value_bytes += op.operand_bytes
            reply.result, reply.unfit = value_bytes, 0
    elif op.operation >= ATOMIC_AND and op.operation <= ATOMIC_XOR:
        value_bytes = _combine(op, held, value)
        reply.result, reply.unfit = value_bytes, 0
    else:
        value_bytes = op.operand_bytes
        memcpy(value, op.operand, op.operand_bytes)
    if value_bytes < 0:
        return value_bytes
    return _write(op, out, value_bytes, expires_us)


def evaluate(bytes operation not None, held, uint64_t held_expires_us, uint64_t time_us):
    """Evaluate one encoded operation (BatchBuffer.atomic) against what a key holds.

    Shape:   held, the value or None; held_expires_us, its expiry or 0; time_us, T.
    Returns: None if nothing is to be written; else (value or None for a delete, expires_us).
    Raises:  NotAnIntegerError, IntegerOverflowError, ValueTooLargeError; ProtocolError, no such
             operation.
    """
    cdef AtomicOp op
    cdef Held before
    cdef LoggedOp after
    cdef uint8_t *out
    cdef int64_t done
    cdef AtomicReply reply
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(operation)
    if len(operation) == 0 or atomic_parse(
            p, <uint64_t>len(operation), &op) != <uint64_t>len(operation):
        raise ProtocolError("this is no atomic operation")
    before.present = held is not None
    before.value, before.value_bytes, before.expires_us = NULL, 0, 0
    if before.present:
        before.value = <const uint8_t *>PyBytes_AS_STRING(<bytes?>held)
        before.value_bytes = <uint32_t>len(<bytes>held)
        before.expires_us = held_expires_us
    out = <uint8_t *>malloc(atomic_room(&op, &before))
    if out == NULL:
        raise MemoryError()
    try:
        done = atomic_apply(&op, &before, time_us, out, &reply)
        if done < 0:
            kind = by_wire_code()[-done]
            raise kind((kind.__doc__ or "").splitlines()[0])
        if done == 0:
            return None
        if op_parse(out, done, &after) == 0:
            raise ProtocolError("the result of an atomic operation is malformed")
        if after.kind == KIND_DELETE:
            return None, 0
        return (PyBytes_FromStringAndSize(<const char *>after.value, after.value_bytes),
                after.expires_us)
    finally:
        free(out)
