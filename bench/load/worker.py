"""One client of a load, in a process of its own.

Its parent sends orders by a pipe and gets answers: READY when it is connected, LOADED when its part
of the keys is written, a Second at each second's end, and DONE. A Refusal says that it can't go on.

W1  A client ends when its parent does: sending or receiving fails then.
W2  In an open loop every operation whose moment comes within the load is begun, or it is an error:
    what waits when the load ends is done behind that, as long as it isn't overdue.
W3  In an open loop an operation's latency runs from the moment when it should have begun, if the
    client was late because an earlier operation took long. A client that slept until that moment
    counts from when it woke, for how late a timer is isn't the service's fault.
"""

from __future__ import annotations

import gc
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

import numpy as np

from ferrisdb.bench.distributions import distribution
from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.load.ledger import Ledger
from ferrisdb.bench.load.plan import Plan
from ferrisdb.bench.load.seconds import OVERDUE, SHORTEST_S, Second
from ferrisdb.bench.load.session import FAILURES, RefusedError, Session, new_session
from ferrisdb.bench.records import Records, keys_of
from ferrisdb.exit_codes import ExitCode

READY: Final = "ready"
LOAD: Final = "load"
LOADED: Final = "loaded"
STOP: Final = "stop"
DONE: Final = "done"

CHUNK: Final = 2048
BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 4 << 20
ATTEMPTS_MAX: Final = 5
SECOND_NS: Final = 1_000_000_000
SHORTEST_NS: Final = int(SHORTEST_S * 1e9)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client can't go on."""

    why: str
    code: ExitCode


def serve(pipe: Connection, plan: Plan, client: int) -> None:
    """Be client number `client` of a load until the parent's pipe ends, or the load does."""
    # Ctrl-C is the parent's business, which says STOP.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    session = new_session(plan.target, plan.durability, plan.timeout_s)
    try:
        session.open()
        worker = Worker(session, plan, client, pipe)
        pipe.send(READY)
        while (order := pipe.recv()) != STOP:
            if order == LOAD:
                worker.load()
                pipe.send(LOADED)
            else:
                worker.run(order)
                break
        pipe.send(DONE)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # W1
    except RefusedError as error:
        pipe.send(Refusal(str(error), error.code))
    except FAILURES as error:
        pipe.send(Refusal(f"{plan.target.text}: {error}", ExitCode.UNAVAILABLE))
    finally:
        session.close()


class Worker:
    """Does the operations, and counts.

    Owner:  one thread.
    """

    def __init__(
        self,
        session: Session,
        plan: Plan,
        client: int,
        pipe: Connection,
        *,
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare it.

        Shape:   clock, in ns, the same in every process.
        """
        self._clock = clock
        self._sleep = sleep
        self._session = session
        self._plan = plan
        self._client = client
        self._pipe = pipe
        self._records = Records(plan.value_bytes)
        self._ledger = Ledger(client, plan.clients, plan.key_count, self._records)
        self._rng = rng = np.random.default_rng((plan.seed, client))
        self._numbers = distribution(plan.distribution, plan.key_count, plan.theta, rng)
        self._second = Second(0)
        self._samples: dict[str, list[int]] = {"read": [], "update": []}
        self._reconnects_before = 0
        self._begin_ns = self._end_ns = self._second_end_ns = 0
        self._stopped = False
        self._chunk: tuple[list[int], list[bytes], list[bool], list[bool]] = ([], [], [], [])
        self._at = 0

    # Loading

    def load(self) -> None:
        """Write this client's own keys.

        Raises:  what FAILURES has, when a batch failed again and again.
        """
        plan = self._plan
        numbers = np.arange(self._client, plan.key_count, plan.clients, dtype=np.uint64)
        size = max(min(BATCH_ROWS, BATCH_BYTES // (plan.value_bytes + 64)), 1)
        for begin in range(0, len(numbers), size):
            keys = keys_of(numbers[begin : begin + size])
            rows = [(plan.prefix + key, self._records.value(key, 0)) for key in keys]
            self._write_batch(rows)

    def _write_batch(self, rows: list[tuple[bytes, bytes]]) -> None:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                self._session.open()
                self._session.put_many(rows)
                return
            except FAILURES as error:
                self._session.failed(error)
                if attempt == ATTEMPTS_MAX:
                    raise

    # Running

    def run(self, begin_ns: int) -> None:
        """Do operations from a moment on, for as long as the plan says, or until STOP."""
        plan = self._plan
        self._begin_ns = begin_ns
        self._second_end_ns = begin_ns + SECOND_NS
        self._reconnects_before = self._session.reconnects
        self._end_ns = end_ns = begin_ns + int(plan.seconds * 1e9)
        warm_ns = begin_ns - int(plan.warm_up_s * 1e9)
        # What the collector finds is ours, and would be timed.
        gc.collect()
        gc.disable()
        while (left_ns := warm_ns - self._clock()) > 0:
            self._sleep(left_ns / 1e9)
        if plan.rate_per_s is None:
            self._closed_loop(end_ns)
        else:
            self._open_loop(warm_ns, end_ns, plan.clients * 1e9 / plan.rate_per_s)
        self._send_second()

    def _closed_loop(self, end_ns: int) -> None:
        clock = self._clock
        while not self._stopped:
            now = clock()
            if now >= end_ns:
                return
            self._operate(now)

    def _open_loop(self, first_ns: int, end_ns: int, interval_ns: float) -> None:
        clock = self._clock
        overdue_ns = int(self._plan.timeout_s * 1e9)
        # The clients' moments lie between each other's.
        offset = (self._client + 0.5) / self._plan.clients
        total = math.ceil((end_ns - first_ns) / interval_ns - offset)
        count, has_slept = 0, False
        while count < total and not self._stopped:  # W2
            due = first_ns + int((count + offset) * interval_ns)
            now = clock()
            if now < due:
                self._idle_until(due)
                has_slept = True
                continue
            late_ns = now - due
            if late_ns > overdue_ns:
                # All at once, for at a rate beyond reach they are many. One is done behind them,
                # or by the time that they are counted the next would be overdue, for ever.
                skipped = min(max(int((late_ns - overdue_ns) / interval_ns), 1), total - count)
                self._skip(skipped)
                count += skipped
                if count == total:
                    break
                due += int(skipped * interval_ns)
            count += 1
            self._operate(now if has_slept else due)  # W3
            has_slept = False
        self._idle_until(end_ns)

    def _idle_until(self, moment_ns: int) -> None:
        """Sleep, but never past a second's end."""
        while not self._stopped:
            now = self._clock()
            self._turn(now)
            if now >= moment_ns:
                return
            self._sleep(max(min(moment_ns, self._second_end_ns) - now, 0) / 1e9)

    def _operate(self, reference_ns: int) -> None:
        """Do the next operation; its latency runs from the reference."""
        number, key, is_read, is_verified = self._next()
        session, kind = self._session, "read" if is_read else "update"
        version, value = 0, None
        if not is_read:
            version, value = self._ledger.next_value(number, key)
        named = self._plan.prefix + key
        try:
            if not session.is_open:
                session.open()
            if value is None:
                found = session.get(named)
            else:
                session.put(named, value)
        except (*FAILURES, RefusedError) as error:
            self._count_errors(kind, session.failed(error))
            if value is not None:
                self._ledger.failed(number, version)
            return
        now = self._clock()
        self._turn(now)
        # What was sent before the warm-up's end counts as little as what ended before it.
        if reference_ns >= self._begin_ns:
            self._samples[kind].append(now - reference_ns)
        if value is not None:
            self._ledger.answered(number, version)
        elif is_verified:
            self._verify(number, key, found)

    def _verify(self, number: int, key: bytes, value: bytes | None) -> None:
        self._second.verified += 1
        fault = self._ledger.fault(number, key, value)
        if fault is not None:
            self._second.wrong[fault] += 1

    def _skip(self, count: int) -> None:
        """Pass over operations that nobody would wait for any more."""
        reads = int(self._rng.binomial(count, self._plan.read_ratio))
        self._count_errors("read", OVERDUE, reads)
        self._count_errors("update", OVERDUE, count - reads)

    def _count_errors(self, kind: str, trouble: str, count: int = 1) -> None:
        now = self._clock()
        self._turn(now)
        if now >= self._begin_ns and count:
            self._second.errors[kind, trouble] += count

    def _next(self) -> tuple[int, bytes, bool, bool]:
        if self._at >= len(self._chunk[0]):
            shares = self._rng.random((2, CHUNK))
            are_reads = shares[0] < self._plan.read_ratio
            drawn = self._numbers.draw(CHUNK)
            # A key has one writer, and any reader.
            numbers = np.where(are_reads, drawn, self._ledger.own(drawn))
            are_verified = shares[1] < self._plan.verify_ratio
            self._chunk = (
                numbers.tolist(), keys_of(numbers), are_reads.tolist(), are_verified.tolist()
            )  # fmt: skip
            self._at = 0
        at, chunk = self._at, self._chunk
        self._at += 1
        return chunk[0][at], chunk[1][at], chunk[2][at], chunk[3][at]

    # Reporting

    def _turn(self, now_ns: int) -> None:
        """Send the seconds that are over, and see whether to stop."""
        while now_ns >= self._second_end_ns:
            # The last second takes what ends just behind it.
            if self._second_end_ns >= self._end_ns and now_ns < self._second_end_ns + SHORTEST_NS:
                return
            self._send_second()
            self._second_end_ns += SECOND_NS
            if self._pipe.poll():
                self._stopped = self._pipe.recv() == STOP

    def _send_second(self) -> None:
        second = self._second
        second.ended_ns = self._clock()
        second.reconnects = self._session.reconnects - self._reconnects_before
        self._reconnects_before = self._session.reconnects
        for kind, samples in self._samples.items():
            if samples:
                histogram = Histogram()
                histogram.add_many(samples)
                second.latencies[kind] = histogram
                samples.clear()
        self._pipe.send(second)
        self._second = Second(second.number + 1)
