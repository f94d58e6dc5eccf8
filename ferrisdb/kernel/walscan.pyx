# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Walk the records of a WAL file, and tell a torn tail from corruption.

The rule (DESIGN §4). Pages that were not synced reach the disk in any order, so after a power
cut a bad record may have good ones behind it. Let X be the offset of the first bad record:

S1  Bytes below the header's `synced_end`, or below the `synced_to` of any later valid record,
    were durable. X among them is corruption.
S2  Otherwise X and all behind it was never promised: the file ends at X.
S3  A record with a right checksum that contradicts its file (sequence, operations) is never a
    torn write: it is corruption.

A record counts as valid only under this file's salt and at its own offset, so neither the
former life of a recycled file nor a copy of a record inside a value can pass for one.

Owner: any thread; the buffer must be private (copied from the file), for it is read twice.
Cost:  0.2 ns a byte for the walk. The look behind X tries every 8-aligned offset whose fields
       are plausible. Values may hold lookalikes by the million; once the checksums of candidates
       have cost twice the file's bytes, they are computed from prefix checksums instead (CRC is
       linear: state(b) = state(a) * x^(8(b-a)) + data(a, b), as in zlib's crc32_combine).
"""

from array import array

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc

from ferrisdb.kernel.cpu cimport crc32c, load_u32, load_u64, put_u64
from ferrisdb.kernel.source cimport KIND_RANGE_DELETE
from ferrisdb.kernel.wal cimport (
    REQUEST_PUT_TTL, STORED_KEY_BYTES_MAX, WAL_RECORD_HEADER_BYTES, Op, WalRecord, op_parse,
    wal_parse, wal_record_bytes, wal_seal, wal_seed,
)

from ferrisdb.errors import CorruptionError

cdef enum:
    REPLY_BYTES_MAX = 32
    GRAIN = 64                      # bytes between two stored prefix states
    POWERS = 40                     # x^(2^k) for files below 2^36 bytes

cdef uint64_t SEQNO_MAX = (<uint64_t>1 << 56) - 1
cdef uint32_t POLYNOMIAL = 0x82F63B78

REPAIR_ADVICE = (
    "bytes that had been made durable have changed: run `ferrisdb repair`, "
    "or restore a checkpoint"
)


cdef inline uint32_t _multiply(uint32_t a, uint32_t b) noexcept nogil:
    # Product of two polynomials over GF(2) modulo the CRC's, bits reflected.
    cdef uint32_t bit = <uint32_t>1 << 31, product = 0
    while bit:
        if a & bit:
            product ^= b
            if not a & (bit - 1):
                break
        bit >>= 1
        b = (b >> 1) ^ POLYNOMIAL if b & 1 else b >> 1
    return product


cdef struct Prefix:
    const uint8_t *base
    uint64_t start
    uint32_t *states                # raw CRC state (from 0) before start + GRAIN * i
    uint32_t powers[POWERS]


cdef bint prefix_fill(Prefix *self, const uint8_t *base, uint64_t start,
                      uint64_t end) noexcept nogil:
    cdef uint64_t count = (end - start) // GRAIN + 1, i
    cdef uint32_t state = 0
    self.base = base
    self.start = start
    self.states = <uint32_t *>malloc(count * sizeof(uint32_t))
    if self.states == NULL:
        return False
    for i in range(count):
        self.states[i] = state
        if i + 1 < count:
            state = ~crc32c(~state, base + start + i * GRAIN, GRAIN)
    self.powers[0] = <uint32_t>1 << 30
    for i in range(1, POWERS):
        self.powers[i] = _multiply(self.powers[i - 1], self.powers[i - 1])
    return True


cdef inline uint32_t prefix_state(Prefix *self, uint64_t offset) noexcept nogil:
    cdef uint64_t i = (offset - self.start) // GRAIN
    cdef uint64_t at = self.start + i * GRAIN
    return ~crc32c(~self.states[i], self.base + at, offset - at)


cdef uint32_t prefix_crc(Prefix *self, uint32_t seed, uint64_t a, uint64_t b) noexcept nogil:
    cdef uint32_t shift = <uint32_t>1 << 31
    cdef uint64_t n = b - a
    cdef int k = 3
    while n:
        if n & 1:
            shift = _multiply(self.powers[k], shift)
        n >>= 1
        k += 1
    return ~(_multiply(shift, ~seed ^ prefix_state(self, a)) ^ prefix_state(self, b))


cdef inline bint ops_well_formed(const WalRecord *record) noexcept nogil:
    cdef Op op
    cdef uint64_t left = record.ops_bytes
    cdef const uint8_t *p = record.ops
    cdef uint32_t taken, _i
    for _i in range(record.count):
        taken = op_parse(p, left, &op)
        if not taken or op.kind == REQUEST_PUT_TTL:
            return False
        if op.kind == KIND_RANGE_DELETE and op.value_bytes > STORED_KEY_BYTES_MAX:
            return False
        p += taken
        left -= taken
    return left == 0


cdef inline bint plausible(const uint8_t *r, uint64_t offset, uint64_t left,
                           uint64_t next_seq) noexcept nogil:
    # What a record behind X must look like before its checksum is worth computing.
    cdef uint64_t ops_bytes = load_u32(r + 4), seq = load_u64(r + 8), synced_to = load_u64(r + 24)
    cdef uint64_t count = load_u32(r + 16)
    cdef uint32_t word = load_u32(r + 20)
    return (
        next_seq <= seq <= SEQNO_MAX and synced_to <= offset and word & 0xFFFF == 0
        and word >> 16 <= REPLY_BYTES_MAX and count * 8 <= ops_bytes
        and (count == 0) == (ops_bytes == 0) and wal_record_bytes(ops_bytes, word >> 16) <= left
    )


cdef enum Verdict:
    SOUND = 0
    NO_MEMORY = 1
    BAD_SEQUENCE = 2
    BAD_OPERATIONS = 3
    BAD_FIELDS = 4
    DAMAGED = 5


cdef class WalScan:
    """What a scan found; see scan()."""

    cdef readonly uint64_t valid_end
    cdef readonly uint64_t record_count
    cdef readonly uint64_t next_seq
    cdef readonly uint64_t time_us_max
    cdef readonly uint64_t dropped_records
    cdef readonly uint64_t dropped_bytes
    cdef readonly object offsets
    cdef uint64_t *_found
    cdef uint64_t _room
    cdef uint64_t _bad_offset
    cdef uint64_t _expected
    cdef uint64_t _actual

    def __dealloc__(self):
        free(self._found)

    @property
    def last_seq(self):
        """Highest sequence number of the valid records; base_seq - 1 without any."""
        return self.next_seq - 1

    cdef bint _push(self, uint64_t offset) noexcept nogil:
        cdef uint64_t *grown
        if self.record_count == self._room:
            self._room = self._room * 2 if self._room else 1024
            grown = <uint64_t *>realloc(self._found, self._room * sizeof(uint64_t))
            if grown == NULL:
                return False
            self._found = grown
        self._found[self.record_count] = offset
        self.record_count += 1
        return True

    cdef Verdict _walk(self, const uint8_t *base, uint64_t n, uint64_t salt,
                       uint64_t first_offset) noexcept nogil:
        cdef WalRecord record
        cdef uint64_t offset = first_offset
        while offset < n and wal_parse(base, n, offset, salt, &record):
            self._bad_offset = offset
            # A first record may lie above the base: numbers of a lost tail are skipped for good.
            if record.first_seq < self.next_seq or record.first_seq > SEQNO_MAX or (
                    record.first_seq > self.next_seq and self.record_count) or (
                    record.first_seq + record.count > SEQNO_MAX + 1):
                self._expected = self.next_seq
                self._actual = record.first_seq
                return BAD_SEQUENCE
            if (load_u32(base + offset + 20) & 0xFFFF or record.reply_bytes > REPLY_BYTES_MAX
                    or record.synced_to > offset):
                return BAD_FIELDS
            if not ops_well_formed(&record):
                return BAD_OPERATIONS
            if not self._push(offset):
                return NO_MEMORY
            self.next_seq = record.first_seq + record.count
            if record.time_us > self.time_us_max:
                self.time_us_max = record.time_us
            offset += record.total_bytes
        self.valid_end = offset
        return SOUND

    cdef Verdict _look_behind(self, const uint8_t *base, uint64_t n, uint64_t salt,
                              uint64_t synced_end) noexcept nogil:
        # S1 and S2 for X = valid_end.
        cdef uint64_t x = self.valid_end, offset = x + 8, total, spent = 0
        cdef uint64_t last_end = x, durable = synced_end
        cdef const uint8_t *r
        cdef uint32_t crc
        cdef Prefix prefix
        prefix.states = NULL
        while offset + WAL_RECORD_HEADER_BYTES <= n:
            r = base + offset
            if not plausible(r, offset, n - offset, self.next_seq):
                offset += 8
                continue
            total = wal_record_bytes(load_u32(r + 4), load_u32(r + 20) >> 16)
            if spent <= 2 * n:
                spent += total
                crc = crc32c(wal_seed(offset, salt), r + 4, total - 4)
            else:
                if prefix.states == NULL and not prefix_fill(&prefix, base, x, n):
                    return NO_MEMORY
                crc = prefix_crc(&prefix, wal_seed(offset, salt), offset + 4, offset + total)
            if crc != load_u32(r):
                offset += 8
                continue
            self.dropped_records += 1
            last_end = offset + total
            if load_u64(r + 24) > durable:
                durable = load_u64(r + 24)
            offset = last_end
        free(prefix.states)
        self.dropped_bytes = last_end - x
        if durable > x:
            self._bad_offset = x
            self._expected = durable
            return DAMAGED
        return SOUND

    cdef _raise(self, Verdict verdict, str path):
        if verdict == NO_MEMORY:
            raise MemoryError
        if verdict == BAD_SEQUENCE:
            raise CorruptionError(
                path, self._bad_offset, f"a record with sequence {self._expected}", self._actual,
                REPAIR_ADVICE)
        if verdict == DAMAGED:
            raise CorruptionError(
                path, self._bad_offset, f"a whole record (synced up to byte {self._expected})",
                "a damaged one", REPAIR_ADVICE)
        what = "well-formed operations" if verdict == BAD_OPERATIONS else "valid record fields"
        raise CorruptionError(path, self._bad_offset, what, "others", REPAIR_ADVICE)


def scan(const uint8_t[::1] buffer not None, uint64_t salt, *, str path, uint64_t base_seq,
         uint64_t first_offset=128, uint64_t synced_end=0):
    """Find the valid records of a WAL file by the rule above.

    Shape:   buffer, a private copy of the whole file; base_seq, at least 1: the lowest sequence
             number that its first record may have; synced_end: what the file's header says.
    Returns: WalScan. A file that is all zeros behind its header is empty.
    Raises:  CorruptionError (S1, S3), with the path and the offset of the first bad record.
    """
    cdef WalScan result = WalScan.__new__(WalScan)
    cdef uint64_t n = <uint64_t>buffer.shape[0]
    cdef const uint8_t *base
    cdef Verdict verdict
    if first_offset % 8 or base_seq == 0 or base_seq > SEQNO_MAX:
        raise ValueError("first_offset is a multiple of 8, base_seq a sequence number")
    if n < first_offset:
        raise CorruptionError(
            path, n, f"a header of {first_offset} bytes", f"{n} bytes", REPAIR_ADVICE)
    result.next_seq = base_seq
    base = &buffer[0]
    with nogil:
        verdict = result._walk(base, n, salt, first_offset)
        if verdict == SOUND:
            verdict = result._look_behind(base, n, salt, synced_end)
    if verdict != SOUND:
        result._raise(verdict, path)
    result.offsets = array("Q")
    if result.record_count:
        result.offsets.frombytes((<const uint8_t *>result._found)[:result.record_count * 8])
    return result


def find_record(const uint8_t[::1] buffer not None, uint64_t salt, uint64_t start):
    """Return the offset of the first whole record at or behind `start`; the buffer's length: none.

    Shape: start, a multiple of 8.
    Cost:  gives up, as if there were none, once checksums have cost eight times the buffer.
    """
    cdef uint64_t n = <uint64_t>buffer.shape[0], offset = start, spent = 0
    cdef const uint8_t *r
    cdef WalRecord record
    if start % 8:
        raise ValueError("a record's offset is a multiple of 8")
    with nogil:
        while offset + WAL_RECORD_HEADER_BYTES <= n and spent <= 8 * n:
            r = &buffer[0] + offset
            if plausible(r, offset, n - offset, 0):
                spent += wal_record_bytes(load_u32(r + 4), load_u32(r + 20) >> 16)
                if wal_parse(&buffer[0], n, offset, salt, &record):
                    n = offset
            offset += 8
    return n


def reseal(const uint8_t[::1] buffer not None, uint64_t start, uint64_t end, uint64_t offset,
           uint64_t salt, uint64_t synced_to):
    """Re-encode valid records for another file.

    Shape:   buffer[start:end] are whole records as scan() found them; offset and salt are those
             of their new place. Each record's synced_to becomes the given one, or its own new
             offset where that is lower.
    Returns: bytes, as many as came in.
    Raises:  ValueError where the range is not made of whole records.
    """
    cdef uint64_t n = <uint64_t>buffer.shape[0], done = 0, total
    cdef uint8_t *out
    cdef bint whole = True
    if start > end or end > n or (end - start) % 8 or offset % 8:
        raise ValueError("the range does not lie in the buffer, or is not 8-aligned")
    if start == end:
        return b""
    copy = bytes(buffer[start:end])
    out = copy
    with nogil:
        while done < end - start:
            if end - start - done < WAL_RECORD_HEADER_BYTES:
                whole = False
                break
            total = wal_record_bytes(load_u32(out + done + 4), load_u32(out + done + 20) >> 16)
            if total > end - start - done:
                whole = False
                break
            put_u64(out + done + 24, min(synced_to, offset + done))
            wal_seal(out + done, total, offset + done, salt)
            done += total
    if not whole:
        raise ValueError("the range is not made of whole records")
    return copy


def outcomes(const uint8_t[::1] buffer not None, const uint64_t[::1] offsets not None):
    """Collect what the records say of their clients' requests.

    Shape:   offsets, those of scan(); records without a client (an id of zeros) are passed over.
    Returns: (unanswered, rows): unanswered, dict of client id to the highest unanswered_no it
             sent; rows, a list of (client_id, request_no, unanswered_no, first_seq, count, reply)
             in commit order, without the requests that their client has seen answered.
    """
    cdef uint64_t n = <uint64_t>buffer.shape[0], offset, reply_bytes, ops_bytes
    cdef Py_ssize_t i, count = offsets.shape[0]
    cdef const uint8_t *r
    unanswered = {}
    rows = []
    for turn in range(2):
        for i in range(count):
            offset = offsets[i]
            if offset + WAL_RECORD_HEADER_BYTES > n:
                raise ValueError("an offset lies outside the buffer")
            r = &buffer[0] + offset
            if not (load_u64(r + 40) | load_u64(r + 48)):
                continue
            client = r[40:56]
            if turn == 0:
                if load_u64(r + 64) > unanswered.get(client, -1):
                    unanswered[client] = load_u64(r + 64)
            elif load_u64(r + 56) >= unanswered[client]:
                ops_bytes = load_u32(r + 4)
                reply_bytes = load_u32(r + 20) >> 16
                if wal_record_bytes(ops_bytes, reply_bytes) > n - offset:
                    raise ValueError("a record lies outside the buffer")
                ops_bytes += WAL_RECORD_HEADER_BYTES
                reply = r[ops_bytes:ops_bytes + reply_bytes]
                rows.append((client, load_u64(r + 56), load_u64(r + 64), load_u64(r + 8),
                             load_u32(r + 16), reply))
    return unanswered, rows
