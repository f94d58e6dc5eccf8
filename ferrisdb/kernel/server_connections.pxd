# The connections of a socket server: their bytes in and out, and when each may go on.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ferrisdb.kernel.client cimport Attachment
from ferrisdb.kernel.resp cimport Output, RespRequest
from ferrisdb.kernel.sockets cimport epoll_event

cdef enum:
    # Counters in the client's metrics row.
    METRIC_CONNECTIONS = 16     # ever
    METRIC_CONNECTED = 17       # now
    METRIC_COMMANDS = 18
    METRIC_BYTES_IN = 19
    METRIC_BYTES_OUT = 20
    METRIC_REJECTED = 21
    METRIC_HITS = 22
    METRIC_MISSES = 23
    METRIC_SERVER_COUNT = 8

cdef enum:
    KIND_UNIX = 0
    KIND_TCP = 1
    KIND_TLS = 2

cdef enum Wait:
    # Why a connection's input is not looked at.
    WAIT_WRITES = 1             # for the answers of its plain writes
    WAIT_ATOMIC = 2             # for the answer of the request at the front of its input
    WAIT_REPLY = 4              # for `reply`
    WAIT_ROOM = 8               # for room in the ring
    WAIT_OUTPUT = 16            # until its client has read what it was told

cdef enum Flag:
    FAST = 1                    # hot commands need not be asked for
    STRANGER = 2                # it has not said who it is
    FILTERED = 4
    ADMITTED = 8                # `opened` said so; `closed` is owed
    CLOSING = 16                # once its output is out
    DEAD = 32                   # to be buried at the round's end
    ENDED = 64                  # nothing comes from there any more
    DETACHED = 128              # epoll does not know it: it hung up, and can't be closed yet
    READY = 256                 # in the list of those that can go on
    IN_COMMAND = 512            # a handler's call is running for it
    REPLIED = 1024              # that call has replied already
    ANSWERED = 2048             # `answer` is to be told
    DEAF = 4096                 # nobody reads there any more: what it is told is dropped

# Zeroed while it is free.
cdef struct Connection:
    uint64_t number             # never used again; 0: free
    int fd
    uint32_t interest           # what epoll tells of it
    uint16_t flags
    uint8_t waits
    uint8_t kind
    uint8_t protocol            # 2 or 3
    uint8_t durability
    uint32_t place              # in `live`
    uint32_t writes             # plain writes that are unanswered
    uint32_t done               # and answered, of which it has not been told
    # Its own input: where a request is not complete, or it waits. Bytes [input_at, input_end).
    uint8_t *input
    uint32_t input_at
    uint32_t input_end
    uint32_t input_room
    RespRequest *partial        # of the request at input_at, if it has many arguments
    uint64_t atomic_bytes       # of the request that WAIT_ATOMIC is about
    int64_t answer              # what it came to
    Output output               # what the socket did not take
    int64_t created_ns
    int64_t active_ns           # last input
    int64_t partial_ns          # since when it owes us the rest of a request; 0: it doesn't
    int64_t close_by_ns         # then it is closed, come what may; 0: no such time
    uint64_t commands
    Connection *next            # among the free, or the dead

# What a connection was told in this round, in `shared_output`.
cdef struct Letter:
    Connection *conn
    uint64_t at
    uint64_t nbytes

cdef enum:
    LETTER_COUNT = 256

cdef struct Limits:
    uint64_t connection_count_max
    uint64_t request_bytes_max
    uint64_t output_bytes_max
    uint64_t input_bytes_max    # of all connections' own input
    int64_t idle_ns             # 0: no limit
    int64_t partial_ns

cdef class Connections:
    cdef readonly Attachment attached
    cdef readonly object handler
    cdef int epoll
    cdef int wake_fd
    cdef Limits limits
    cdef uint64_t *metrics
    cdef int64_t now_ns
    cdef uint64_t next_number
    cdef dict by_number         # to addresses
    cdef dict filters
    cdef list listeners         # (fd, kind)
    cdef bint listening         # False: there was no descriptor left
    cdef int64_t listen_again_ns
    cdef Connection **live
    cdef uint32_t live_count
    cdef uint32_t live_room
    cdef Connection **chunks
    cdef uint32_t chunk_count
    cdef Connection *unused
    cdef Connection *dead
    cdef Connection **ready
    cdef uint32_t ready_count
    cdef uint32_t ready_room
    cdef uint64_t input_bytes   # rooms of all own inputs
    cdef uint8_t *shared_input
    cdef bint unread            # the read in progress may have left something (N6)
    cdef Output shared_output
    cdef Connection *current    # that is being served; what it is told goes to `out`
    cdef Output *out
    cdef uint64_t out_begin     # where in `shared_output` that begins
    cdef Letter letters[LETTER_COUNT]
    cdef uint32_t letter_count
    cdef Connection *find(self, uint64_t number) noexcept
    cdef Connection *_allocate(self) except NULL
    cdef int _accept(self, int fd, int kind) except -1
    cdef int _admit(self, int fd, int kind) except -1
    cdef void _refuse(self, int fd, int kind) noexcept
    cdef int _pause_listening(self) except -1
    cdef int _listen_all(self) except -1
    cdef void doom(self, Connection *conn) noexcept
    cdef int bury(self) except -1
    cdef void _release(self, Connection *conn) noexcept
    cdef int make_ready(self, Connection *conn) except -1
    cdef int begin(self, Connection *conn) noexcept
    cdef int finish(self, Connection *conn) except -1
    cdef int _emit(self, Connection *conn, uint64_t at, uint64_t nbytes) except -1
    cdef int post_letters(self) except -1
    cdef int64_t _send(self, Connection *conn, const uint8_t *p, uint64_t n) noexcept
    cdef int _drain(self, Connection *conn) noexcept
    cdef int settle(self, Connection *conn) except -1
    cdef void watch(self, Connection *conn) noexcept
    cdef int _arm(self, Connection *conn, int operation) noexcept
    cdef int say(self, Connection *conn, bytes text) except -1
    cdef int on_event(self, Connection *conn, uint32_t events) except -1
    cdef int _receive(self, Connection *conn) except -1
    cdef int _receive_shared(self, Connection *conn) except -1
    cdef int _receive_own(self, Connection *conn) except -1
    cdef int _receive_filtered(self, Connection *conn, const uint8_t *raw, uint64_t n) except -1
    cdef int64_t _read(self, Connection *conn, uint8_t *to, uint64_t room) noexcept
    cdef int keep_input(self, Connection *conn, const uint8_t *p, uint64_t n) noexcept
    cdef int _input_room(self, Connection *conn, uint64_t more) noexcept
    cdef void drop_input(self, Connection *conn) noexcept
    cdef int resume(self, Connection *conn) except -1
    cdef void _tell(self, Connection *conn) noexcept
    cdef int press(self, Connection *conn) except -1
    cdef int _go_on(self, Connection *conn) except -1
    cdef void _note_partial(self, Connection *conn, bint progress) noexcept
    # Carries out requests that begin at p; returns how many bytes they took.
    cdef int64_t consume(self, Connection *conn, uint8_t *p, uint64_t n) except -1
    cdef int sweep(self) except -1
    cdef int report(self, str what) except -1
