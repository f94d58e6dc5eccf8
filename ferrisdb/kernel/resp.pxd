# RESP requests, parsed in place, and replies, written into a buffer that grows.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy

from ferrisdb.kernel.atomics cimport format_i64, parse_i64

cdef enum:
    PARSE_MORE = 0              # the request is not complete
    PARSE_REQUEST = 1           # it is; `at` bytes; perhaps without arguments: then no answer
    # Faults, by Redis's order of looking for them; `fault_text` has the words.
    BAD_COUNT = 2
    BAD_LENGTH = 3
    BAD_TYPE = 4                # `at` is where something else than '$' stands
    COUNT_TOO_LONG = 5
    LENGTH_TOO_LONG = 6
    INLINE_TOO_LONG = 7
    BAD_QUOTES = 8
    COUNT_TOO_LARGE = 9         # for one who has not said who he is
    LENGTH_TOO_LARGE = 10
    NOT_RESP = 11               # a line of HTTP: no answer
    NO_MEMORY = 12

cdef enum:
    LINE_BYTES_MAX = 1 << 16    # an inline request, and the line of a count or length
    STRANGER_ARGS_MAX = 10
    STRANGER_BULK_MAX = 16384

cdef struct RespArg:
    uint32_t at                 # offset from the request's first byte
    uint32_t nbytes

# A request, as far as it has been parsed; zeroed to begin one.
cdef struct RespRequest:
    RespArg *args
    uint32_t room
    uint32_t count
    uint32_t total              # arguments announced; 0: not read yet
    bint in_bulk
    uint64_t bulk_bytes         # of the argument that begins at `at`, if in_bulk
    uint64_t at                 # bytes that are done with
    uint64_t need               # PARSE_MORE: nothing changes before there are so many

cdef struct RespLimits:
    uint64_t bulk_bytes_max     # of one argument, below 2**32
    bint stranger

# Bytes on their way out; those before `sent` are gone.
cdef struct Output:
    uint8_t *base
    uint64_t sent
    uint64_t nbytes
    uint64_t room

cdef int parse_slowly(const uint8_t *p, uint64_t n, uint64_t *at, int64_t *value) noexcept nogil
cdef int parse_inline(uint8_t *p, uint64_t n, RespRequest *request) noexcept nogil
cdef bint more_args(RespRequest *request) noexcept nogil
cdef bytes fault_text(int fault, uint8_t found)
cdef bint output_grow(Output *out, uint64_t need) noexcept nogil

cdef enum:
    LINE_WHOLE = 0
    LINE_PARTIAL = 1
    LINE_BAD = 2
    LINE_LONG = 3


cdef inline int parse_line(const uint8_t *p, uint64_t n, uint64_t *at,
                           int64_t *value) noexcept nogil:
    # The decimal from `at` to "\r\n", which `at` is moved behind.
    cdef uint64_t i = at[0], end = i + 10, number
    cdef uint32_t digit
    if i < n:
        number = <uint32_t>p[i] - <uint32_t>c'0'
        if number - 1 < 9:
            i += 1
            if end > n:
                end = n
            while i < end:
                digit = <uint32_t>p[i] - <uint32_t>c'0'
                if digit > 9:
                    break
                number = number * 10 + digit
                i += 1
            if i + 1 < n and p[i] == c'\r':
                value[0] = <int64_t>number
                at[0] = i + 2
                return LINE_WHOLE
    return parse_slowly(p, n, at, value)


cdef inline int parse_head(const uint8_t *p, uint64_t n, RespRequest *request,
                           const RespLimits *limits) noexcept nogil:
    # "*count\r\n"; PARSE_REQUEST: read.
    cdef uint64_t at = 1
    cdef int64_t value = 0
    cdef int line = parse_line(p, n, &at, &value)
    if line == LINE_PARTIAL:
        request.need = n + 1
        return PARSE_MORE
    if line == LINE_LONG:
        return COUNT_TOO_LONG
    if line == LINE_BAD or value > 0x7FFFFFFF:
        return BAD_COUNT
    if limits.stranger and value > STRANGER_ARGS_MAX:
        return COUNT_TOO_LARGE
    request.at = at
    request.total = <uint32_t>value if value > 0 else 0
    return PARSE_REQUEST


cdef inline int parse_bulk(const uint8_t *p, uint64_t n, RespRequest *request,
                           const RespLimits *limits) noexcept nogil:
    # "$length\r\n"; PARSE_REQUEST: read.
    cdef uint64_t at = request.at
    cdef int64_t value = 0
    cdef int line
    if at >= n:
        request.need = at + 4
        return PARSE_MORE
    if p[at] != c'$':
        # Redis wants to see the line's end before it complains.
        line = parse_slowly(p, n, &at, &value)
        if line == LINE_PARTIAL:
            request.need = n + 1
            return PARSE_MORE
        return LENGTH_TOO_LONG if line == LINE_LONG else BAD_TYPE
    at += 1
    line = parse_line(p, n, &at, &value)
    if line == LINE_PARTIAL:
        request.need = n + 1
        return PARSE_MORE
    if line == LINE_LONG:
        return LENGTH_TOO_LONG
    if line == LINE_BAD or value < 0 or <uint64_t>value > limits.bulk_bytes_max:
        return BAD_LENGTH
    if limits.stranger and value > STRANGER_BULK_MAX:
        return LENGTH_TOO_LARGE
    request.at = at
    request.bulk_bytes = <uint64_t>value
    request.in_bulk = True
    return PARSE_REQUEST


cdef inline int parse_request(uint8_t *p, uint64_t n, RespRequest *request,
                              const RespLimits *limits) noexcept nogil:
    # Go on with the request that begins at p, of which n < 2**32 bytes are there. An inline one's
    # arguments are unquoted in place.
    cdef int parsed
    cdef RespArg *arg
    if request.total == 0:
        if n == 0:
            request.need = 1
            return PARSE_MORE
        if p[0] != c'*':
            return parse_inline(p, n, request)
        parsed = parse_head(p, n, request, limits)
        if parsed != PARSE_REQUEST or request.total == 0:
            return parsed
    while request.count < request.total:
        if not request.in_bulk:
            parsed = parse_bulk(p, n, request, limits)
            if parsed != PARSE_REQUEST:
                return parsed
        if n - request.at < request.bulk_bytes + 2:
            request.need = request.at + request.bulk_bytes + 2
            return PARSE_MORE
        if request.count == request.room and not more_args(request):
            return NO_MEMORY
        arg = &request.args[request.count]
        arg.at = <uint32_t>request.at
        arg.nbytes = <uint32_t>request.bulk_bytes
        request.at += request.bulk_bytes + 2
        request.count += 1
        request.in_bulk = False
    return PARSE_REQUEST


cdef inline void begin_request(RespRequest *request) noexcept nogil:
    request.count = request.total = 0
    request.at = request.need = 0
    request.in_bulk = False


# Replies

cdef inline uint8_t *output_room(Output *out, uint64_t more) noexcept nogil:
    # Where the next bytes go, with room for so many; NULL: no memory.
    if out.room - out.nbytes < more and not output_grow(out, out.nbytes + more):
        return NULL
    return out.base + out.nbytes


cdef inline bint output_bytes(Output *out, const void *p, uint64_t n) noexcept nogil:
    cdef uint8_t *to
    if n == 0:
        return True
    to = output_room(out, n)
    if to == NULL:
        return False
    memcpy(to, p, n)
    out.nbytes += n
    return True


cdef inline uint8_t *put_number(uint8_t *p, uint8_t kind, int64_t number) noexcept nogil:
    # "<kind><number>\r\n", at most 23 bytes; returns what is behind.
    p[0] = kind
    if 0 <= number < 10:
        p[1] = c'0' + <uint8_t>number
        p += 2
    elif 10 <= number < 100:
        p[1] = c'0' + <uint8_t>(number // 10)
        p[2] = c'0' + <uint8_t>(number % 10)
        p += 3
    else:
        p += 1 + format_i64(number, p + 1)
    p[0] = c'\r'
    p[1] = c'\n'
    return p + 2


cdef inline bint output_number(Output *out, uint8_t kind, int64_t number) noexcept nogil:
    cdef uint8_t *to = output_room(out, 24)
    if to == NULL:
        return False
    out.nbytes = put_number(to, kind, number) - out.base
    return True


cdef inline bint output_bulk(Output *out, const uint8_t *p, uint64_t n) noexcept nogil:
    cdef uint8_t *to = output_room(out, n + 32)
    if to == NULL:
        return False
    to = put_number(to, c'$', <int64_t>n)
    memcpy(to, p, n)
    to[n] = c'\r'
    to[n + 1] = c'\n'
    out.nbytes = to + n + 2 - out.base
    return True


cdef inline bint output_null(Output *out, int protocol) noexcept nogil:
    if protocol >= 3:
        return output_bytes(out, "_\r\n", 3)
    return output_bytes(out, "$-1\r\n", 5)


cdef inline void output_free(Output *out) noexcept nogil:
    free(out.base)
    out.base = NULL
    out.nbytes = out.sent = out.room = 0


cdef class RequestParser:
    cdef RespRequest request
    cdef RespLimits limits
    cdef Output input
    cdef bytes _error
    cdef list _args(self, const uint8_t *p)
