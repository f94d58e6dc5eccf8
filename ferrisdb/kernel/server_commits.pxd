# What a socket server has under way in its ring.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ferrisdb.kernel.batch cimport BatchBuffer
from ferrisdb.kernel.server_connections cimport Connection, Connections

cdef enum:
    FLIGHT_COUNT = 256          # COMPLETION_COUNT

# Whose plain writes are in a batch, and how many of them.
cdef struct Member:
    Connection *conn
    uint64_t number
    uint64_t count

# Plain writes of one durability that are still to be pushed: one batch.
cdef struct Gather:
    uint8_t *ops
    uint64_t nbytes
    uint64_t room
    uint64_t count
    Member *members
    uint32_t member_count
    uint32_t member_room
    uint32_t in_flight          # batches that are pushed and not answered
    int64_t begun_ns            # when its first write came

cdef enum FlightKind:
    FLIGHT_NONE = 0
    FLIGHT_GATHER = 1
    FLIGHT_ATOMIC = 2           # its answer is the result
    FLIGHT_REMOVE = 3           # its answer is how many were there
    FLIGHT_TOKEN = 4

cdef struct Flight:
    uint64_t request_no
    FlightKind kind
    Member *members
    uint32_t member_count
    uint64_t large_no
    Connection *conn
    uint64_t number
    int durability              # of a batch

cdef class Commits(Connections):
    cdef Gather gathers[4]      # by DURABILITY_*
    cdef uint64_t gather_bytes_max
    cdef Flight flights[FLIGHT_COUNT]
    cdef list tokens            # of the flights, by the same index
    cdef object queue           # what `submit` could not push yet
    cdef uint64_t taken_no      # answers up to this request are taken
    cdef uint32_t in_flight
    cdef uint32_t event_count   # what epoll told when it was asked last
    cdef bint large_in_flight
    cdef bint room_wanted       # some connection has WAIT_ROOM
    cdef int64_t progress_ns    # when an answer, or the first request without one, came
    cdef int64_t looked_ns      # when it was looked whether the service lives
    cdef bint has_room(self, uint64_t nbytes) noexcept
    cdef Flight *_take_off(self, uint64_t request_no, FlightKind kind) noexcept
    # Room in the batch for operations of so many bytes; False: none now.
    cdef bint gather_room(self, int durability, uint64_t nbytes, uint64_t count) except? -1
    cdef bint has_gathered(self) noexcept
    cdef int join_gather(self, int durability, Connection *conn) except -1
    cdef int _push_gather(self, int durability) except -1
    cdef bint _push_token(self, token, BatchBuffer batch, int durability, uint64_t generation,
                          uint64_t snapshot_seq, bytes checks, uint64_t expiry_us) except? -1
    cdef bint is_due(self, int durability) noexcept
    cdef int push_all(self) except -1
    cdef bint has_answers(self) noexcept
    cdef int take_answers(self) except -1
    cdef int _land(self, Flight *flight, uint32_t index) except -1
    cdef int _land_gather(self, Flight *flight, uint32_t status) except -1
    cdef int _land_atomic(self, Flight *flight, uint32_t status) except -1
    cdef int _land_token(self, token, uint32_t status, uint64_t seq) except -1
    cdef bytes failure(self, uint32_t status)
    cdef int wait_for_room(self, Connection *conn) noexcept
    cdef int _give_room(self) except -1
    cdef int look_at_service(self) except -1
