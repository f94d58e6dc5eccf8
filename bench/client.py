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
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from ferrisdb.bench.engines import ENGINES, Engine
from ferrisdb.bench.loops import Window, closed_loop, open_loop
from ferrisdb.bench.records import Records, digits_of, keys_of
from ferrisdb.bench.stream import HOT, Stream
from ferrisdb.bench.task import Place, Tally, Task, WrongAnswer

READY: Final = "ready"
REST_S: Final = 20.0
"""A store that has been written to gets so long to do what it has left for later."""

_SPUN_NS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an order was not carried out."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Rows to write in batches: those with the numbers from `first` on."""

    place: Place
    count: int
    value_bytes: int
    first: int = 0
    sequential: bool = False
    batch_rows: int = 1000
    #: Have the store compact itself behind it.
    settles: bool = True


def serve(pipe: Connection) -> None:
    """Carry out orders until the pipe is closed."""
    # Ctrl-C is the runner's business, which closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders: dict[str, Callable[..., Any]] = {
        "run": lambda tasks: run(tasks, pipe),
        "load": load,
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
    return ENGINES[place.engine](place.folder, place.settings, durability=durability)


def run(tasks: list[Task], pipe: Connection) -> list[Tally] | None:
    """Do tasks, each in a thread if there are several; None: the runner has changed its mind."""
    first = tasks[0]
    with ExitStack() as stack:
        engine = stack.enter_context(opened(first.place, first.durability))
        handles = [engine]
        handles += [stack.enter_context(engine.another(task.durability)) for task in tasks[1:]]
        tallies = [Tally() for _ in tasks]
        streams = [
            Stream(handle, task, tally)
            for handle, task, tally in zip(handles, tasks, tallies, strict=True)
        ]
        for handle in handles:
            handle.ready(writers=first.writers)
        pipe.send(READY)
        begin_ns = pipe.recv()
        if begin_ns is None:
            return None
        # What Python's collector finds is the harness's, and would be timed.
        gc.collect()
        gc.disable()
        try:
            _all_at_once(
                [
                    lambda stream=stream, task=task, tally=tally: work(  # type: ignore[misc]
                        stream, task, tally, begin_ns
                    )
                    for stream, task, tally in zip(streams, tasks, tallies, strict=True)
                ]
            )
        finally:
            gc.enable()
        for stream in streams:
            stream.reread()
        if first.writers and first.client == 0:
            engine.rest(REST_S)
    return tallies


def work(stream: Stream, task: Task, tally: Tally, begin_ns: int) -> None:
    """Wait for the moment, and do a task's operations."""
    count_ns = begin_ns + int(task.warm_s * 1e9)
    window = Window(begin_ns, count_ns, count_ns + int(task.seconds * 1e9))
    while (left := begin_ns - time.perf_counter_ns()) > 0:
        if left > _SPUN_NS:
            time.sleep((left - _SPUN_NS) / 1e9)
    if task.rate_per_s is None:
        closed_loop(stream, task.role, window, tally, counts_rows=task.counts_rows)
    else:
        offset = (task.client + 0.5) / task.clients
        open_loop(stream, task.role, window, tally, rate_per_s=task.rate_per_s, offset=offset)


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
    tally, records = Tally(), Records(order.value_bytes)
    make = digits_of if order.sequential else keys_of
    latencies = tally.histogram("batch")
    with opened(order.place, "os") as engine:
        for at in range(0, order.count, order.batch_rows):
            begin = order.first + at
            end = min(begin + order.batch_rows, order.first + order.count)
            keys = make(np.arange(begin, end, dtype=np.uint64))
            rows = [(key, records.value(key, 0)) for key in keys]
            begin_ns = time.perf_counter_ns()
            engine.put_batch(rows)
            took = time.perf_counter_ns() - begin_ns
            latencies.add(took)
            tally.active_ns += took
            tally.operations += len(rows)
        if order.settles:
            begin_ns = time.perf_counter_ns()
            engine.settle()
            engine.rest(REST_S)
            tally.settled_s = (time.perf_counter_ns() - begin_ns) / 1e9
    return tally


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
