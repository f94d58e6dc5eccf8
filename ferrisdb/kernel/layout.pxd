# Offsets of every shared word, in bytes. Owners and memory orders are in the modules of shm/.
# Each hot word has a cache line (64 bytes) of its own.

cpdef enum:
    LAYOUT_VERSION = 1
    CONTROL_BYTES = 4096
    # Control page: the coordinator writes, everyone else maps it read-only.
    CONTROL_MAGIC = 0               # u64 "FDBCTRL\0"
    CONTROL_LAYOUT = 8              # u32
    CONTROL_NONCE = 16              # 16 bytes: the database id
    CONTROL_GENERATION = 64         # u64
    CONTROL_EPOCH = 128             # u64; bit 63 set: this page is retired, look for a new one
    CONTROL_VISIBLE_SEQ = 192       # u64
    CONTROL_ORDERED_SEQ = 256       # u64
    CONTROL_GC_FLOOR = 320          # u64
    CONTROL_SLEEPING = 384          # u32, 1 while the coordinator sleeps on the doorbell
    CONTROL_STATE = 448             # u32, STATE_*
    CONTROL_COORDINATOR_PID = 452   # u32, for people; never used to judge liveness
    CONTROL_ACTIVE_CLIENTS = 512    # u32, clients that sent something in the last tick
    CONTROL_LAST_TIME_US = 576      # u64, T of the last group
    CONTROL_MEMTABLE_BYTES = 640    # u64, for stats and batch limits
    CONTROL_BATCH_BYTES_MAX = 648   # u64, largest batch (operations as encoded) that is accepted

    CONTROL_COMPACTED = 704         # u64, ticket up to which ranges were compacted as clients asked
    CONTROL_AT_REST = 768           # u32, 1: nothing to compact, and nothing flushed for a while
    CONTROL_FIGURES = 776           # u64s, figures of the tree for stats (shm/control.py)
    CONTROL_KEYSPACES = 2048        # u64, changes of the catalogue of key spaces, this generation

    STATE_STARTING = 1
    STATE_RUNNING = 2
    STATE_STALLED = 3
    STATE_DISK_FULL = 4
    STATE_STOPPED = 5
    STATE_POISONED = 6
    STATE_MEMORY_FULL = 7

    # Doorbell: written by every client; promises nothing.
    DOORBELL_BYTES = 4096
    DOORBELL_WORD = 0               # u32, futex; incremented to wake the coordinator
    DOORBELL_ATTENTION = 64         # u32, incremented when the registry has news
    DOORBELL_TURNS = 2048           # TURN_COUNT u64, kernel/turn.pyx; by the key's hash
    TURN_COUNT = 32
    TURN_BYTES = 64

    # Client segment: written by one client process and the coordinator.
    CLIENT_MAGIC = 0                # u64 "FDBCLNT\0"
    CLIENT_LAYOUT = 8               # u32
    CLIENT_SEGMENT_BYTES = 16       # u64
    CLIENT_ID = 24                  # 16 bytes, random, never reused
    CLIENT_PID = 40                 # u32, for people
    CLIENT_GENERATION = 64          # u64, client: the generation it has agreed to serve under
    CLIENT_TAIL = 128               # u64, client: bytes pushed since creation, multiple of 8
    CLIENT_DONE_POS = 192           # u64, client: first byte of the ring not answered yet
    CLIENT_SLOTS_USED = 200         # u32, client: slots at or above this index were never used
    # u32, client: threads about to sleep on CLIENT_WAKE; CLIENT_IN_EPOLL: its event loop, too.
    CLIENT_SLEEPING = 256
    CLIENT_WAKE = 320               # u32, coordinator: futex, incremented before a wake
    CLIENT_WAKES_FD = 324           # u32, coordinator: 1 if it has an eventfd for CLIENT_IN_EPOLL
    CLIENT_ATTACHED = 384           # u64, coordinator: generation under which it serves this client
    CLIENT_ERROR = 448              # u32, coordinator: wire code of why it stopped serving
    CLIENT_LARGE = 512              # u64, client: number of its large-batch segment in use, 0 none

    CLIENT_IN_EPOLL = 0x40000000    # added to CLIENT_SLEEPING

    SLOTS_OFFSET = 4096             # SLOT_COUNT x 64 bytes
    SLOT_COUNT = 256
    SLOT_BYTES = 64
    SLOT_EPOCH = 0                  # u64, client: pinned epoch, 0 = free
    SLOT_SEQ = 8                    # u64, client: snapshot sequence; 2**64-1 = a plain read
    SLOT_NOW_US = 16                # u64, client: the snapshot's frozen time
    SLOT_BORN_NS = 24               # u64, client: monotonic time of the pin
    SLOT_REVOKED = 32               # u64, coordinator: the epoch that it revoked here

    COMPLETIONS_OFFSET = 20480      # COMPLETION_COUNT x 64 bytes, by request_no % their count
    COMPLETION_COUNT = 256
    COMPLETION_BYTES = 64
    COMPLETION_REQUEST_NO = 0       # u64, coordinator: written last, release
    COMPLETION_STATUS = 8           # u32, 0 or the wire code of an error
    COMPLETION_REPLY_BYTES = 12     # u32
    # u64, last sequence of the batch. Of a conflict which check failed, from 0 on; all ones: what
    # was read has expired.
    COMPLETION_SEQ = 16
    COMPLETION_REPLY = 24           # 32 bytes

    METRICS_OFFSET = 36864          # METRICS_COUNT u64 counters, client
    METRICS_COUNT = 512
    RING_OFFSET = 65536             # RING_BYTES
    RING_BYTES = 524288
    CLIENT_BYTES = 589824           # RING_OFFSET + RING_BYTES

    # Request in the ring, 8-aligned; never wraps: a PAD record fills the end of the ring.
    REQUEST_HEADER_BYTES = 80
    REQUEST_BYTES = 0               # u32, whole record, multiple of 8
    REQUEST_TYPE = 4                # u8, REQUEST_*; u8 durability; u16 zero
    REQUEST_DURABILITY = 5
    REQUEST_NO = 8                  # u64
    REQUEST_UNANSWERED_NO = 16      # u64
    REQUEST_GENERATION = 24         # u64, 0 = any (a batch that read nothing)
    REQUEST_SNAPSHOT_SEQ = 32       # u64, for the checks
    REQUEST_DEADLINE_NS = 40        # u64, monotonic; a stall past it is answered with BusyError
    REQUEST_OPS_BYTES = 48          # u32
    REQUEST_COUNT_ = 52             # u32, operations
    REQUEST_CHECKS_BYTES = 56       # u32, what must be unchanged since the snapshot: CHECK_*
    REQUEST_CPU = 60                # u32, CPU that the client runs on, plus 1; 0 unknown; a hint
    REQUEST_LARGE_NO = 64           # u64, segment of operations and checks; 0 = they follow here
    REQUEST_EXPIRY_US = 72          # u64, earliest expiry read: up to T a conflict; 0 none

    REQUEST_PAD = 1
    REQUEST_BATCH = 2
    REQUEST_CONTROL = 3             # operations as shm/control_request.py says
    REQUEST_ATOMIC = 4              # a batch with atomic operations among the others

    # A check: u32 bytes of the key in bits 0-23 and CHECK_* in bits 24-31, then the key; of a range
    # u32 bytes of the end (0: no bound), start, end. Unaligned.
    CHECK_KEY = 0
    CHECK_RANGE = 1

    DURABILITY_ASYNC = 1
    DURABILITY_OS = 2
    DURABILITY_SYNC = 3

    # Memtable segment: the coordinator writes, everyone else maps it read-only.
    MEMTABLE_MAGIC = 0              # u64 "FDBMEMT\0"
    MEMTABLE_LAYOUT = 8             # u32
    MEMTABLE_NUMBER = 16            # u64, also the number of its WAL file
    MEMTABLE_BYTES = 24             # u64
    MEMTABLE_SLOT_COUNT = 32        # u64, power of two
    MEMTABLE_ARENA_OFFSET = 40      # u64
    MEMTABLE_USED = 64              # u64, coordinator, release: first free byte of the arena
    MEMTABLE_KEYS = 72              # u64, coordinator, relaxed: key nodes
    MEMTABLE_VERSIONS = 80          # u64, coordinator, relaxed
    MEMTABLE_FIRST_SEQ = 88         # u64, coordinator: lowest sequence that may be in it
    MEMTABLE_RANGES = 128           # u32, coordinator, release: newest range tombstone, 0 none
    MEMTABLE_RANGE_COUNT = 132      # u32, coordinator, release (after MEMTABLE_RANGES)
    MEMTABLE_HEAD = 192             # skip list head: HEIGHT_MAX u32 links
    MEMTABLE_HEIGHT_MAX = 16
    MEMTABLE_SLOTS_OFFSET = 4096    # u64 slots: tag = hash bits 32-63, node offset in bits 0-31
