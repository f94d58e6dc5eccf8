# The coordinator's end of one client's ring: what it knows of the client, how it reads a request.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ferrisdb.kernel cimport layout as c
from ferrisdb.kernel.cpu cimport (load32_relaxed, load64_acquire, load_u32, load_u64, put_u32,
                                  put_u64, store64_release)

# What became of a request, for a client that asks again.
cdef struct Outcome:
    uint64_t request_no
    uint64_t first_seq
    uint32_t count
    uint32_t reply_bytes
    uint8_t reply[32]

cdef struct Port:
    uint8_t *base               # the client's segment; NULL: no client here
    uint64_t pos                # bytes of its ring consumed; private, never read from the client
    uint64_t next_no            # the request number that must come next, 0: whatever comes
    uint64_t unanswered_no
    uint64_t known_max          # highest request with an outcome from before this generation
    uint64_t last_us            # T of the group of its last request
    uint64_t tick               # the tick that this was in
    uint32_t sent               # requests in that tick
    uint8_t client_id[16]
    bint live
    bint touched                # answered in this group, to be woken behind it
    int wake_fd                 # eventfd that wakes its event loop, -1 none
    Outcome *outcomes           # COMPLETION_COUNT, by request_no % COMPLETION_COUNT

# A request's header: a copy, checked. Its operations and checks still lie in the ring.
cdef struct Request:
    const uint8_t *ops          # both meaningless where large_no is not 0
    const uint8_t *checks
    uint32_t nbytes
    uint32_t ops_bytes
    uint32_t checks_bytes
    uint32_t count
    uint8_t kind                # REQUEST_BATCH, REQUEST_ATOMIC or REQUEST_CONTROL
    uint32_t cpu
    uint8_t durability
    uint64_t request_no
    uint64_t unanswered_no
    uint64_t generation
    uint64_t snapshot_seq
    uint64_t deadline_ns
    uint64_t large_no
    uint64_t expiry_us

cdef enum:
    # Wire codes of ferrisdb.errors.
    CODE_BATCH_TOO_LARGE = 14
    CODE_KEYSPACE_DROPPED = 19
    CODE_CONFLICT = 40
    CODE_SNAPSHOT_TOO_OLD = 41
    CODE_COMMIT_UNKNOWN = 42
    CODE_HISTORY = 43
    CODE_BUSY = 51
    CODE_PROTOCOL = 60

cdef enum:
    CONTROL_OPS_MAX = 1 << 18   # two stored keys and a head are less
    CHECKS_BYTES_MAX = 4 << 20  # in a segment of their own

cdef enum:
    PEEK_NONE = 0               # the ring is empty
    PEEK_REQUEST = 1
    PEEK_PAD = 2                # skip nbytes
    PEEK_FAULT = 3              # the client breaks the agreement


cdef inline int peek(const Port *port, Request *out) noexcept nogil:
    # Read the ring's next request; nothing is consumed. Bytes are copied, then checked (L1).
    cdef uint64_t tail = load64_acquire(port.base + c.CLIENT_TAIL), left = tail - port.pos
    cdef uint64_t at = port.pos % c.RING_BYTES, need
    cdef const uint8_t *place = port.base + c.RING_OFFSET + at
    cdef uint8_t head[c.REQUEST_HEADER_BYTES]
    if left == 0:
        return PEEK_NONE
    if left > c.RING_BYTES or tail & 7:
        return PEEK_FAULT
    out.nbytes = load32_relaxed(place)
    if out.nbytes & 7 or out.nbytes < 8 or out.nbytes > left or out.nbytes > c.RING_BYTES - at:
        return PEEK_FAULT
    if (load32_relaxed(place + 4) & 0xFF) == c.REQUEST_PAD:
        return PEEK_PAD
    if out.nbytes < c.REQUEST_HEADER_BYTES:
        return PEEK_FAULT
    memcpy(head, place, c.REQUEST_HEADER_BYTES)
    out.kind = head[c.REQUEST_TYPE]
    out.durability = head[c.REQUEST_DURABILITY]
    out.request_no = load_u64(head + c.REQUEST_NO)
    out.unanswered_no = load_u64(head + c.REQUEST_UNANSWERED_NO)
    out.generation = load_u64(head + c.REQUEST_GENERATION)
    out.snapshot_seq = load_u64(head + c.REQUEST_SNAPSHOT_SEQ)
    out.deadline_ns = load_u64(head + c.REQUEST_DEADLINE_NS)
    out.large_no = load_u64(head + c.REQUEST_LARGE_NO)
    out.expiry_us = load_u64(head + c.REQUEST_EXPIRY_US)
    out.ops_bytes = load_u32(head + c.REQUEST_OPS_BYTES)
    out.count = load_u32(head + c.REQUEST_COUNT_)
    out.checks_bytes = load_u32(head + c.REQUEST_CHECKS_BYTES)
    out.cpu = load_u32(head + c.REQUEST_CPU)
    need = c.REQUEST_HEADER_BYTES
    if out.large_no == 0:
        need += ((<uint64_t>out.checks_bytes + 7) & ~<uint64_t>7) + out.ops_bytes
    elif out.checks_bytes > CHECKS_BYTES_MAX:
        return PEEK_FAULT
    if need > out.nbytes or <uint64_t>out.count * 8 > out.ops_bytes:
        return PEEK_FAULT
    if out.kind == c.REQUEST_CONTROL and (out.large_no or out.ops_bytes > CONTROL_OPS_MAX):
        return PEEK_FAULT
    if (out.kind != c.REQUEST_BATCH and out.kind != c.REQUEST_ATOMIC
            and out.kind != c.REQUEST_CONTROL or out.request_no == 0):
        return PEEK_FAULT
    if port.next_no and out.request_no != port.next_no:
        return PEEK_FAULT
    if out.unanswered_no > out.request_no:
        return PEEK_FAULT
    if out.durability < c.DURABILITY_ASYNC or out.durability > c.DURABILITY_SYNC:
        return PEEK_FAULT
    out.ops = place + c.REQUEST_HEADER_BYTES
    out.checks = place + out.nbytes - (
        0 if out.large_no else (<uint64_t>out.checks_bytes + 7) & ~<uint64_t>7)
    return PEEK_REQUEST


cdef inline const Outcome *known_outcome(const Port *port, uint64_t request_no) noexcept nogil:
    # What an earlier generation committed for this request; NULL if it did not.
    cdef const Outcome *outcome = &port.outcomes[request_no % c.COMPLETION_COUNT]
    if request_no <= port.known_max and outcome.request_no == request_no:
        return outcome
    return NULL


cdef inline void complete(Port *port, uint64_t request_no, uint32_t status, uint64_t seq,
                          const Outcome *outcome) noexcept nogil:
    # Write the answer, its request number last (release): who sees the number sees the rest.
    cdef uint8_t *completion = port.base + c.COMPLETIONS_OFFSET + (
        request_no % c.COMPLETION_COUNT) * c.COMPLETION_BYTES
    put_u32(completion + c.COMPLETION_STATUS, status)
    put_u32(completion + c.COMPLETION_REPLY_BYTES, 0)
    put_u64(completion + c.COMPLETION_SEQ, seq)
    if outcome != NULL:
        put_u32(completion + c.COMPLETION_REPLY_BYTES, outcome.reply_bytes)
        put_u64(completion + c.COMPLETION_SEQ, outcome.first_seq + outcome.count - 1)
        memcpy(completion + c.COMPLETION_REPLY, outcome.reply, 32)
    store64_release(completion + c.COMPLETION_REQUEST_NO, request_no)
    port.touched = True
