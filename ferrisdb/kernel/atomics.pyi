from enum import IntEnum, IntFlag

class Atomic(IntEnum):
    ATOMIC_ADD = 1
    ATOMIC_ADD_WIDE = 2
    ATOMIC_APPEND = 3
    ATOMIC_MINIMUM = 4
    ATOMIC_MAXIMUM = 5
    ATOMIC_AND = 6
    ATOMIC_OR = 7
    ATOMIC_XOR = 8
    ATOMIC_SET = 9
    ATOMIC_EXPIRE = 10
    ATOMIC_REMOVE = 11

class AtomicFlag(IntFlag):
    ATOMIC_RELATIVE = 1
    ATOMIC_HINT = 2
    ATOMIC_HINT_ABSENT = 4
    ATOMIC_IF_ABSENT = 8
    ATOMIC_IF_PRESENT = 16
    ATOMIC_IF_EQUAL = 32
    ATOMIC_KEEP_TTL = 64
    ATOMIC_IF_LATER = 128
    ATOMIC_IF_EARLIER = 256

def evaluate(
    operation: bytes, held: bytes | None, held_expires_us: int, time_us: int
) -> tuple[bytes | None, int] | None: ...
