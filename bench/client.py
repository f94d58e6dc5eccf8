"""A client's process: it opens stores, and does what the runner's pipe asks for, until that ends.

An order is a tuple of its name and its arguments; the answer is what it returns, or a Failure. A
run has two parts, so that all clients begin at once: the process answers READY when its stores are
open, and then waits for the moment at which to begin.

Clients of an engine that only one process may open are threads of one process. They share its
interpreter's lock, which is what such an engine's users have to live with, too.
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from ferrisdb.bench.budget.memory_group import MemoryGroup
from ferrisdb.bench.chunk import Chunk
from ferrisdb.bench.engines import Engine, engine_named
from ferrisdb.bench.loops import OPEN_CHUNK, Window, closed_loop, comparing, open_loop
from ferrisdb.bench.operations import BATCH_ROWS
from ferrisdb.bench.pool import Pool, warm_up
from ferrisdb.bench.records import Records, keys_of
from ferrisdb.bench.stream import HOT, Stream
from ferrisdb.bench.task import Place, Rows, Tally, Task, WrongAnswer

READY: Final = "ready"
REST_S: Final = 20.0
"""A store that has been written to gets so long to do what it has left for later."""

FILLED: Final = 0.95
FILL_NS_MAX: Final = 12_000_000_000
FILL_STEP_NS: Final = 100_000_000
"""How much of its memory a client has to use before the clock starts, and how long that may take.
"""

_SPUN_NS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an order was not carried out."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Rows to write in batches: as many as `rows` says, with the numbers from `first` on."""

    place: Place
    rows: Rows
    first: int = 0
    batch_rows: int = BATCH_ROWS


def serve(pipe: Connection) -> None:
    """Carry out orders until the pipe is closed."""
    # Ctrl-C is the runner's business, which closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders: dict[str, Callable[..., Any]] = {
        "run": lambda tasks: run(tasks, pipe),
        "load": load,
        "rest": rest,
        "count": count,
        "versions": versions,
    }
    try:
        pipe.send(READY)
        while True:
            name, *arguments = pipe.recv()
            try:
                answer = orders[name](*arguments)
            except (EOFError, BrokenPipeError):
                raise
            # Whatever a store raises: the cell shows it, and others go on.
            except Exception as error:
                answer = Failure(told(error))
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def told(error: BaseException) -> str:
    """Return an exception as a line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, WrongAnswer) else f"{type(error).__name__}: {text}"[:500]


def opened(place: Place, durability: str) -> Engine:
    """Return a handle of a store."""
    return engine_named(place.engine)(place.folder, place.settings, durability=durability)


def run(tasks: list[Task], pipe: Connection) -> list[Tally] | None:
    """Do tasks, each in a thread if there are several; None: the runner has changed its mind."""
    first = tasks[0]
    if first.group is not None:
        # Before anything is opened: whoever touches memory first pays for it.
        first.group.join()
    with ExitStack() as stack:
        engine = stack.enter_context(opened(first.place, first.durability))
        handles = [engine]
        handles += [stack.enter_context(engine.another(task.durability)) for task in tasks[1:]]
        for handle in handles:
            handle.ready(writers=first.writers)
        tallies = [Tally() for _ in tasks]
        work = [
            Work(Stream(handle, task, tally), task, tally)
            for handle, task, tally in zip(handles, tasks, tallies, strict=True)
        ]
        with _no_collector():
            _all_at_once([each.prepare for each in work])
        pipe.send(READY)
        begin_ns = pipe.recv()
        if begin_ns is None:
            return None
        with _no_collector():
            _all_at_once([partial(each.run, begin_ns) for each in work])
        for each in work:
            each.stream.reread()
        if first.writers and first.client == 0:
            engine.rest(REST_S)
    return tallies


class Work:
    """One task: what is done before its moment, and what begins with it."""

    def __init__(self, stream: Stream, task: Task, tally: Tally) -> None:
        self.stream = stream
        self._task = task
        self._tally = tally
        self._pool: Pool | None = None
        self._scheduled: list[Chunk] = []
        self._compared_every = 1

    def prepare(self) -> None:
        """Make the operations, in a closed loop as many as a warm-up says that it will take."""
        task = self._task
        if task.rate_per_s is not None:
            count = int((task.warm_s + task.seconds) * task.rate_per_s) + 2
            self._scheduled = [
                self.stream.chunk(min(OPEN_CHUNK, count - at)) for at in range(0, count, OPEN_CHUNK)
            ]
            return
        if task.group is not None:
            self._fill_memory(task.group)
        pace = warm_up(self.stream, time.perf_counter_ns() + int(task.warm_s * 1e9))
        self._pool = Pool(
            self.stream,
            task.role,
            pace,
            seconds=task.seconds,
            value_bytes=task.rows.value_bytes,
            clients=task.clients,
        )
        expected = task.seconds * 1e9 / pace.operation_ns
        self._compared_every = comparing(task.role, expected, pace.chunk_operations)

    def _fill_memory(self, group: MemoryGroup) -> None:
        """Work until the memory that is allowed is in use."""
        give_up_ns = time.perf_counter_ns() + FILL_NS_MAX
        while group.used_bytes() < FILLED * group.bytes_max:
            now_ns = time.perf_counter_ns()
            if now_ns > give_up_ns:
                break
            warm_up(self.stream, now_ns + FILL_STEP_NS)

    def run(self, begin_ns: int) -> None:
        """Wait for the moment, and do the operations."""
        task, role, tally = self._task, self._task.role, self._tally
        warm_ns = 0 if task.rate_per_s is None else int(task.warm_s * 1e9)
        count_ns = begin_ns + warm_ns
        window = Window(begin_ns, count_ns, count_ns + int(task.seconds * 1e9))
        while (left := begin_ns - time.perf_counter_ns()) > 0:
            if left > _SPUN_NS:
                time.sleep((left - _SPUN_NS) / 1e9)
        if task.rate_per_s is not None:
            offset = (task.client + 0.5) / task.clients
            open_loop(
                self.stream,
                self._scheduled,
                role,
                window,
                tally,
                rate_per_s=task.rate_per_s,
                offset=offset,
            )
            return
        assert self._pool is not None
        closed_loop(
            self.stream,
            self._pool,
            role,
            window,
            tally,
            compared_every=self._compared_every,
            counts_rows=task.counts_rows,
        )


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python's collector away: what it finds is the harness's, and would be timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _all_at_once(jobs: list[Callable[[], None]]) -> None:
    """Do jobs, each in a thread if there are several; raises what the first of them raised."""
    if len(jobs) == 1:
        jobs[0]()
        return
    raised: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def load(order: Load) -> Tally:
    """Write rows in batches, one client alone, and let the store settle."""
    rows, tally = order.rows, Tally()
    records = Records(rows.value_bytes, compressible=rows.compressible)
    latencies = tally.histogram("batch")
    with opened(order.place, "os") as engine:
        for at in range(0, rows.loaded, order.batch_rows):
            numbers = np.arange(at, min(at + order.batch_rows, rows.loaded), dtype=np.uint64)
            keys = keys_of(numbers + np.uint64(order.first))
            batch = [(key, records.value(key, 0)) for key in keys]
            begin_ns = time.perf_counter_ns()
            engine.put_batch(batch)
            took = time.perf_counter_ns() - begin_ns
            latencies.add(took)
            tally.active_ns += took
            tally.operations += len(batch)
        begin_ns = time.perf_counter_ns()
        engine.settle()
        tally.settled_s = (time.perf_counter_ns() - begin_ns) / 1e9
    return tally


def rest(place: Place) -> None:
    """Wait until a store has done what it does by itself behind its load."""
    with opened(place, "os") as engine:
        engine.rest(REST_S)


def count(place: Place) -> int:
    """Count a store's rows."""
    with opened(place, "os") as engine:
        return engine.row_count()


def versions(place: Place, hot_keys: int, value_bytes: int) -> int:
    """Return the sum of the versions of the keys that transactions change.

    Raises:  WrongAnswer, one of them is not there.
    """
    records = Records(value_bytes)
    keys = keys_of(np.arange(HOT, HOT + hot_keys, dtype=np.uint64))
    total = 0
    with opened(place, "os") as engine:
        for key in keys:
            value = engine.get(key)
            version = None if value is None else records.version(key, value)
            if version is None:
                raise WrongAnswer(f"{key!r} has the value {value!r} behind transactions")
            total += version
    return total
