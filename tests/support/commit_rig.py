"""Drive a CommitLoop in this process: control page, doorbell, log and client segments in memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ferrisdb.format.wal import Operation, encode_operations
from ferrisdb.kernel import layout as c
from ferrisdb.kernel.commit import CommitLoop, Reason
from ferrisdb.kernel.memtable import MemtableWriter

GENERATION = 7
BATCH_BYTES_MAX = 1 << 17
SALT = 0x1234


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion."""

    request_no: int
    status: int
    seq: int


@dataclass
class Client:
    """The producer's side of one ring, that does what it is told, right or wrong."""

    segment: bytearray = field(default_factory=lambda: bytearray(c.CLIENT_BYTES))
    tail: int = 0
    next_no: int = 1

    def push(
        self,
        *operations: Operation,
        durability: int = c.DURABILITY_OS,
        checks: bytes = b"",
        **header: int,
    ) -> int:
        """Put a request into the ring; `header` overrides its words. Returns its number."""
        return self.push_encoded(
            encode_operations(operations),
            len(operations),
            durability=durability,
            checks=checks,
            **header,
        )

    def push_encoded(
        self,
        ops: bytes,
        op_count: int,
        *,
        durability: int = c.DURABILITY_OS,
        checks: bytes = b"",
        **header: int,
    ) -> int:
        """Put a request of encoded operations into the ring, as `push`."""
        body = ops + bytes(-len(ops) % 8) + checks + bytes(-len(checks) % 8)
        words = {
            "nbytes": c.REQUEST_HEADER_BYTES + len(body),
            "kind": c.REQUEST_BATCH,
            "request_no": self.next_no,
            "unanswered_no": self.next_no,
            "generation": 0,
            "snapshot_seq": 0,
            "deadline_ns": 0,
            "ops_bytes": len(ops),
            "count": op_count,
            "checks_bytes": len(checks),
            "large_no": 0,
            "expiry_us": 0,
        } | header
        record = struct.pack(
            "<IBBHQQQQQIIIIQQ",
            words["nbytes"],
            words["kind"],
            durability,
            0,
            words["request_no"],
            words["unanswered_no"],
            words["generation"],
            words["snapshot_seq"],
            words["deadline_ns"],
            words["ops_bytes"],
            words["count"],
            words["checks_bytes"],
            0,
            words["large_no"],
            words["expiry_us"],
        )
        self.push_raw(record + body)
        self.next_no = words["request_no"] + 1
        return words["request_no"]

    def push_raw(self, record: bytes) -> None:
        """Put bytes into the ring, behind a pad record if they would pass its end."""
        at = self.tail % c.RING_BYTES
        if len(record) > c.RING_BYTES - at:
            pad = c.RING_BYTES - at
            struct.pack_into("<IB", self.segment, c.RING_OFFSET + at, pad, c.REQUEST_PAD)
            self.tail += pad
            at = 0
        self.segment[c.RING_OFFSET + at : c.RING_OFFSET + at + len(record)] = record
        self.set_tail(self.tail + len(record))

    def set_tail(self, tail: int) -> None:
        """Say how far the ring is filled."""
        self.tail = tail
        struct.pack_into("<Q", self.segment, c.CLIENT_TAIL, tail % (1 << 64))

    def answer(self, request_no: int) -> Answer | None:
        """Return the completion of a request, None while it has none."""
        at = c.COMPLETIONS_OFFSET + request_no % c.COMPLETION_COUNT * c.COMPLETION_BYTES
        number, status, _, seq = struct.unpack_from("<QIIQ", self.segment, at)
        return Answer(number, status, seq) if number == request_no else None

    def reply(self, request_no: int) -> tuple[int, int, int]:
        """Return (applied, unfit, result) of an atomic request's completion."""
        at = c.COMPLETIONS_OFFSET + request_no % c.COMPLETION_COUNT * c.COMPLETION_BYTES
        size = struct.unpack_from("<I", self.segment, at + c.COMPLETION_REPLY_BYTES)[0]
        assert size == 16, size
        applied, unfit, result = struct.unpack_from("<IIq", self.segment, at + c.COMPLETION_REPLY)
        return applied, unfit, result

    @property
    def error(self) -> int:
        """Why it is served no longer; 0 if it is."""
        return int.from_bytes(self.segment[c.CLIENT_ERROR : c.CLIENT_ERROR + 4], "little")


class Rig:
    """A loop with a log in memory (fd -1) and a memtable."""

    def __init__(self, *, memtable_bytes: int = 1 << 18, capacity: int = 1 << 22) -> None:
        self.control = bytearray(c.CONTROL_BYTES)
        self.doorbell = bytearray(c.DOORBELL_BYTES)
        struct.pack_into("<Q", self.control, c.CONTROL_BATCH_BYTES_MAX, BATCH_BYTES_MAX)
        self.loop = CommitLoop(
            self.control,
            self.doorbell,
            generation=GENERATION,
            visible_seq=0,
            last_time_us=0,
            spin_ns=0,
        )
        self.memtable_bytes, self.capacity = memtable_bytes, capacity
        self.clients: list[Client] = []
        #: What was written: a file of `capacity` bytes, of which groups say their offsets.
        self.log: list[tuple[int, bytes]] = []
        self.synced = 0
        self._next_number = 1
        #: Frozen memtables that the loop may ask, newest first.
        self.frozen: list[MemtableWriter] = []
        self.rotate()
        # A new loop has its caller look at the registry first.
        self.step()

    def rotate(self, *, keep: bool = False) -> None:
        """Give the loop an empty memtable and log file; `keep` all frozen ones as its history."""
        if self.loop.visible_seq:
            self.frozen = [self.memtable, *(self.frozen if keep else [])]
        self.memtable: MemtableWriter = MemtableWriter(
            bytearray(self.memtable_bytes), self._next_number, self.loop.visible_seq + 1
        )
        self._next_number += 1
        self.log.clear()
        self.loop.set_log(
            self.memtable,
            -1,
            salt=SALT,
            offset=128,
            synced_to=128,
            capacity=self.capacity,
            history=self.frozen,
        )

    def client(self, **arguments: list[tuple[int, int, int, bytes]]) -> Client:
        """Attach another client."""
        client = Client()
        index = len(self.clients)
        self.clients.append(client)
        self.loop.add_port(index, client.segment, bytes([index]) * 16, **arguments)
        return client

    def step(self) -> Reason:
        """Do one thing, writing and syncing where the loop asks for it."""
        reason = Reason(self.loop.step())
        if reason is Reason.WRITE:
            self.log.append((self.loop.wal_offset, self.loop.group_view()))
            if Reason(self.loop.written()) is Reason.SYNC:
                self.synced += 1
                self.loop.synced()
        return reason

    def settle(self) -> None:
        """Do what there is to do; a full memtable is rotated."""
        for _ in range(10_000):
            reason = self.step()
            if reason is Reason.ROTATE:
                self.rotate()
            elif reason is Reason.LARGE:
                self.loop.supply_large(None)
            elif reason is Reason.IDLE:
                return
        raise AssertionError("the loop never comes to rest")

    def contents(self) -> dict[bytes, bytes]:
        """Return what the active memtable holds, tombstones left out."""
        self.loop.link_all()
        rows = self.memtable.source(self.loop.visible_seq).rows()
        return {key: value for key, _, kind, _, value in rows if kind != 2}

    def everything(self) -> dict[bytes, bytes]:
        """Return what all kept memtables hold together, expiries left out of account."""
        self.loop.link_all()
        newest: dict[bytes, tuple[int, int, bytes]] = {}
        ranges = []
        for memtable in (self.memtable, *self.frozen):
            ranges += memtable.range_tombstones()
            for key, seq, kind, _, value in memtable.source(self.loop.visible_seq).rows():
                newest[key] = max(newest.get(key, (0, 0, b"")), (seq, kind, value))
        return {
            key: value
            for key, (seq, kind, value) in newest.items()
            if kind != 2
            and not any(s <= key and (not e or key < e) and at > seq for s, e, at in ranges)
        }
