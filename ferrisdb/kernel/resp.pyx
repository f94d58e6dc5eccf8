# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Parse the requests of Redis clients, whatever bytes they send, and write replies.

A request is "*<count>\\r\\n" and as many times "$<length>\\r\\n<bytes>\\r\\n", or a line of words
that may be quoted. The hot half is inline in resp.pxd; here is what is rare, and a face for Python.

Invariants
    P1  Parsing goes on where it stopped, so that a request costs what its bytes cost however they
        are cut; a line that has no end yet is looked at again, and may have LINE_BYTES_MAX bytes.
    P2  Nothing is allocated by what a client announces, only by what it has sent: an argument takes
        six bytes at least, and eight of ours.

Source: limits, texts and the order of checks are those of Redis 7's networking.c, the quoting
that of its sds.c; the binary zero ends nothing here but an inline request's words.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memmove, memset

from ferrisdb.kernel.atomics cimport parse_i64


FAULTS = {
    BAD_COUNT: b"invalid multibulk length",
    BAD_LENGTH: b"invalid bulk length",
    BAD_TYPE: b"expected '$', got '%c'",
    COUNT_TOO_LONG: b"too big mbulk count string",
    LENGTH_TOO_LONG: b"too big bulk count string",
    INLINE_TOO_LONG: b"too big inline request",
    BAD_QUOTES: b"unbalanced quotes in request",
    COUNT_TOO_LARGE: b"unauthenticated multibulk length",
    LENGTH_TOO_LARGE: b"unauthenticated bulk length",
}
"""What is wrong with a request, in Redis's words."""


cdef int parse_slowly(const uint8_t *p, uint64_t n, uint64_t *at, int64_t *value) noexcept nogil:
    """As `parse_line`, for every line; LINE_WHOLE also where the line is no decimal for Redis."""
    cdef uint64_t begin = at[0], length
    cdef const uint8_t *end = NULL
    if begin < n:
        end = <const uint8_t *>memchr(p + begin, c'\r', n - begin)
    if end == NULL:
        return LINE_LONG if n - begin > LINE_BYTES_MAX else LINE_PARTIAL
    length = <uint64_t>(end - p) - begin
    if begin + length + 1 >= n:
        return LINE_PARTIAL
    at[0] = begin + length + 2
    if length > 20 or not parse_i64(p + begin, <uint32_t>length, value):
        return LINE_BAD
    return LINE_WHOLE


cdef bint more_args(RespRequest *request) noexcept nogil:
    """Make room for one more argument."""
    cdef uint32_t room = max(16, 2 * request.room)
    cdef void *grown
    if request.room > 1 << 30:
        return False
    grown = realloc(request.args, room * sizeof(RespArg))
    if grown == NULL:
        return False
    request.args = <RespArg *>grown
    request.room = room
    return True


cdef inline bint is_blank(uint8_t byte) noexcept nogil:
    return byte == c' ' or (byte >= 9 and byte <= 13)


cdef inline int hex_value(uint8_t byte) noexcept nogil:
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 0x20
    return byte - c'a' + 10 if c'a' <= byte <= c'f' else -1


cdef inline uint8_t unescaped(uint8_t byte) noexcept nogil:
    if byte == c'n':
        return c'\n'
    if byte == c'r':
        return c'\r'
    if byte == c't':
        return c'\t'
    if byte == c'b':
        return c'\b'
    return c'\a' if byte == c'a' else byte


cdef uint8_t *_take_word(uint8_t *s, const uint8_t *end, uint8_t **written) noexcept nogil:
    """Unquote one word onto itself; returns what is behind it, NULL: its quotes are unbalanced.

    Shape:   s, its first byte; end, a byte that ends every word lies there; written, one behind
             its last byte.
    """
    cdef uint8_t *w = s
    cdef uint8_t quote = 0, byte
    while True:
        if s == end or s[0] == 0:
            written[0] = w
            return NULL if quote else s
        byte = s[0]
        if quote == 0:
            if byte == c' ' or byte == c'\n' or byte == c'\r' or byte == c'\t':
                written[0] = w
                return s
            if byte == c'"' or byte == c"'":
                quote = byte
                s += 1
                continue
        elif byte == quote:
            # What is closed has to end there.
            s += 1
            written[0] = w
            return s if s == end or s[0] == 0 or is_blank(s[0]) else NULL
        elif byte == c'\\' and s + 1 != end and s[1]:
            if quote == c"'":
                if s[1] == c"'":
                    s += 1
                    byte = c"'"
            elif (end - s > 3 and s[1] == c'x' and hex_value(s[2]) >= 0 and hex_value(s[3]) >= 0):
                byte = <uint8_t>(hex_value(s[2]) * 16 + hex_value(s[3]))
                s += 3
            else:
                byte = unescaped(s[1])
                s += 1
        w[0] = byte
        w += 1
        s += 1


cdef bint _is_word(const uint8_t *p, uint32_t n, const char *word, uint32_t length) noexcept nogil:
    cdef uint32_t i
    if n != length:
        return False
    for i in range(n):
        if (p[i] | 0x20) != (<const uint8_t *>word)[i] | 0x20:
            return False
    return True


cdef bint _is_http(const uint8_t *p, const RespRequest *request) noexcept nogil:
    """Tell whether a line is of HTTP: a browser, or a page that makes one send requests."""
    cdef const RespArg *args = request.args
    if request.count == 0:
        return False
    if (_is_word(p + args[0].at, args[0].nbytes, "post", 4)
            or _is_word(p + args[0].at, args[0].nbytes, "host:", 5)):
        return True
    return (request.count == 3 and args[2].nbytes == 8
            and _is_word(p + args[2].at, 7, "HTTP/1.", 7))


cdef int parse_inline(uint8_t *p, uint64_t n, RespRequest *request) noexcept nogil:
    """Parse a line of words; its arguments are unquoted in place."""
    cdef uint8_t *end = <uint8_t *>memchr(p, c'\n', n)
    cdef uint8_t *s = p
    cdef uint8_t *behind
    cdef uint8_t *written
    if end == NULL:
        request.need = n + 1
        return INLINE_TOO_LONG if n > LINE_BYTES_MAX else PARSE_MORE
    request.at = <uint64_t>(end + 1 - p)
    if end != p and (end - 1)[0] == c'\r':
        end -= 1
    while True:
        while s != end and is_blank(s[0]):
            s += 1
        if s == end or s[0] == 0:
            break
        behind = _take_word(s, end, &written)
        if behind == NULL:
            return BAD_QUOTES
        if request.count == request.room and not more_args(request):
            return NO_MEMORY
        request.args[request.count].at = <uint32_t>(s - p)
        request.args[request.count].nbytes = <uint32_t>(written - s)
        request.count += 1
        s = behind
    return NOT_RESP if _is_http(p, request) else PARSE_REQUEST


cdef bytes fault_text(int fault, uint8_t found):
    """Return the error line of a fault; empty for what gets no answer."""
    text = FAULTS.get(fault)
    if text is None:
        return b""
    if fault == BAD_TYPE:
        # An error is one line.
        text = text % bytes([c' ' if found == c'\r' or found == c'\n' else found])
    return b"-ERR Protocol error: " + text + b"\r\n"


cdef bint output_grow(Output *out, uint64_t need) noexcept nogil:
    """Make room for `need` bytes in all, forgetting those that are gone."""
    cdef uint64_t room
    cdef void *grown
    if out.sent:
        memmove(out.base, out.base + out.sent, out.nbytes - out.sent)
        need -= out.sent
        out.nbytes -= out.sent
        out.sent = 0
        if need <= out.room:
            return True
    room = max(need + need // 2, <uint64_t>512)
    grown = realloc(out.base, room)
    if grown == NULL:
        return False
    out.base = <uint8_t *>grown
    out.room = room
    return True


cdef class RequestParser:
    """The parser with a buffer of its own, for tests and tools; the server parses in place.

    Shape:   bulk_bytes_max, longest argument; stranger, whether the limits are those of a client
             that has not said who it is.
    """

    def __cinit__(self, *, uint32_t bulk_bytes_max=512 << 20, bint stranger=False):
        self.limits.bulk_bytes_max = bulk_bytes_max
        self.limits.stranger = stranger
        memset(&self.request, 0, sizeof(RespRequest))

    def __dealloc__(self):
        free(self.request.args)
        free(self.input.base)

    @property
    def error(self):
        """What was found wrong: an error line, b"" if it gets none; None: nothing yet."""
        return self._error

    @property
    def buffered_bytes(self):
        """Bytes of the request that is not complete."""
        return self.input.nbytes

    def feed(self, bytes more not None):
        """Take more bytes; return the requests that they complete, each a list of arguments.

        Behind a fault nothing is parsed any more: see `error`.
        """
        cdef uint64_t begin = 0
        cdef uint8_t *p
        cdef int parsed = PARSE_MORE
        cdef list found = []
        if self._error is not None:
            return found
        if not output_bytes(&self.input, <const char *>more, <uint64_t>len(more)):
            raise MemoryError()
        while True:
            p = self.input.base + begin
            parsed = parse_request(p, self.input.nbytes - begin, &self.request, &self.limits)
            if parsed != PARSE_REQUEST:
                break
            if self.request.count:
                found.append(self._args(p))
            begin += self.request.at
            begin_request(&self.request)
        if parsed != PARSE_MORE:
            self._error = fault_text(parsed, p[self.request.at] if parsed == BAD_TYPE else 0)
        if begin:
            memmove(self.input.base, self.input.base + begin, self.input.nbytes - begin)
            self.input.nbytes -= begin
        return found

    cdef list _args(self, const uint8_t *p):
        cdef uint32_t i
        return [(<const char *>p + self.request.args[i].at)[:self.request.args[i].nbytes]
                for i in range(self.request.count)]
