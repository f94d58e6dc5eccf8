"""Start the reader workers, listen to them, and carry messages from one to another: the hub.

All of it happens in a thread of the coordinator, so that the commit loop never waits for a
worker. What concerns the service as a whole goes to the main thread through its inbox: it decides
(engine/control.py), and tells the hub whom to start.

H1  The hub's thread ends when all its workers have: their PDEATHSIG hangs on it.
H2  Nothing is sent that could block: a worker that takes no messages is killed in the end.
H3  There is one wake descriptor for each worker's number, for as long as the service runs: a
    number that the commit loop writes to never becomes another file.
H4  With `lazily`, the listening sockets are watched until the first connection has come; that one
    waits in the backlog for the worker.
"""

from __future__ import annotations

import logging
import os
import queue
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from ferrisdb import service
from ferrisdb.exit_codes import ExitCode
from ferrisdb.options import Options
from ferrisdb.seams import RealClock
from ferrisdb.workers.channel import QueuedChannel
from ferrisdb.workers.children import Inbox
from ferrisdb.workers.listeners import Listeners
from ferrisdb.workers.reader_messages import (
    Answer,
    Answered,
    Ask,
    Asked,
    ConnectionWaits,
    ExitWanted,
    Leave,
    PeerGone,
    Question,
    ReaderGone,
    ReaderStart,
    ReaderUp,
    Reload,
    ShutDown,
    Tell,
    Told,
    Up,
)

LEAVE_NS = 4_000_000_000
"""What a worker that was told to leave may take."""

_GONE_S = 1.0
_log = logging.getLogger("ferrisdb.coordinator")


class ReadersPort(Protocol):
    """The reader workers, as the coordinator's main thread sees them."""

    def begin(self) -> None:
        """Begin; `ConnectionWaits` comes into the inbox when workers are wanted."""

    def start(self, number: int) -> None:
        """Start a worker."""

    def wake_fd(self, number: int) -> int:
        """Return the eventfd on which that worker waits for answers."""

    def has_waiting(self) -> bool:
        """Tell whether a connection waits in a backlog."""

    def reload(self, options: Options) -> None:
        """Have the workers read again what can change while they run."""

    def begin_stop(self, *, quick: bool) -> None:
        """Take no more connections, and have the workers leave; quick: at once."""

    @property
    def is_gone(self) -> bool:
        """Whether all workers have left."""

    def close(self) -> None:
        """Wait for the last worker, and close everything."""


class ReadersFactory(Protocol):
    """Makes the hub of a service."""

    def __call__(
        self,
        directory: str,
        options: Options,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> ReadersPort:
        """Make it; nothing is started yet."""


class _Worker:
    """One worker process, its channel, and whether it serves."""

    __slots__ = ("channel", "is_up", "number", "process")

    def __init__(
        self, number: int, process: subprocess.Popen[bytes], channel: QueuedChannel
    ) -> None:
        self.number = number
        self.process = process
        self.channel = channel
        self.is_up = False


class Readers:
    """The reader workers of one service."""

    def __init__(
        self,
        directory: str,
        options: Options,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
        *,
        listeners: Listeners,
        lazily: bool,
    ) -> None:
        """Shape: lazily, whether workers are wanted only once a connection has come (H4)."""
        self._directory, self._options, self._generation = directory, options, generation
        self._inbox, self._ring = inbox, ring
        self._listeners = listeners
        self._is_watching = lazily
        self._clock = RealClock()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._workers: dict[int, _Worker] = {}
        #: The last Tell under each key, for those that start later.
        self._kept: dict[str, Tell] = {}
        self._kill_at_ns: int | None = None
        self._is_closed = False
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._wake_fds = [os.eventfd(0, flags) for _ in range(options.worker_count)]
        self._bell = os.eventfd(0, flags)
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="readers", daemon=True)

    # The main thread's side

    def begin(self) -> None:
        """Begin; `ConnectionWaits` comes into the inbox when workers are wanted."""
        if not self._is_watching:
            self._inbox.put(ConnectionWaits())
            self._ring()
        self._thread.start()

    def start(self, number: int) -> None:
        """Start a worker; its death, or that it can't be started, comes into the inbox."""
        self._command(lambda: self._start(number))

    def wake_fd(self, number: int) -> int:
        """Return the eventfd on which that worker waits for answers."""
        return self._wake_fds[number]

    def has_waiting(self) -> bool:
        """Tell whether a connection waits in a backlog."""
        return self._listeners.waiting()

    def reload(self, options: Options) -> None:
        """Have the workers read again what can change while they run."""
        self._command(lambda: self._broadcast(Reload(options.log_level)))

    def begin_stop(self, *, quick: bool) -> None:
        """Take no more connections, and have the workers leave; quick: kill them."""
        self._listeners.unlink()
        self._command(lambda: self._stop(0 if quick else LEAVE_NS))

    @property
    def is_gone(self) -> bool:
        """Whether all workers have left."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Wait for the last worker, and close everything; `begin_stop` was called."""
        if self._thread.ident is not None:
            self._thread.join()
        self._is_closed = True
        self._listeners.close()
        self._selector.close()
        for fd in (*self._wake_fds, self._bell):
            os.close(fd)

    def _command(self, command: Callable[[], None]) -> None:
        if not self._is_closed:
            self._commands.put(command)
            os.eventfd_write(self._bell, 1)

    # The hub's thread

    def _run(self) -> None:
        try:
            self._selector.register(self._bell, selectors.EVENT_READ, self._take_commands)
            if self._is_watching:
                for listener in self._listeners.sockets:
                    self._selector.register(
                        listener.socket, selectors.EVENT_READ, self._connection_waits
                    )
            while self._kill_at_ns is None or self._workers:
                for key, _ in self._selector.select(self._patience_s()):
                    key.data()
                self._kill_late()
        except Exception:
            _log.exception("the hub of the reader workers failed")
            for worker in self._workers.values():
                worker.process.kill()
                worker.process.wait()
                worker.channel.close()
            self._inbox.put(ExitWanted(ExitCode.INTERNAL))
        self._ring()

    def _take_commands(self) -> None:
        os.eventfd_read(self._bell)
        while not self._commands.empty():
            self._commands.get()()

    def _connection_waits(self) -> None:
        if self._is_watching:
            self._watch_no_more()
            self._inbox.put(ConnectionWaits())
            self._ring()

    def _watch_no_more(self) -> None:
        if self._is_watching:
            self._is_watching = False
            for listener in self._listeners.sockets:
                self._selector.unregister(listener.socket)

    # Starting and ending

    def _start(self, number: int) -> None:
        if self._kill_at_ns is not None:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            listeners = [(one.socket.fileno(), int(one.kind)) for one in self._listeners.sockets]
            wake_fd = self._wake_fds[number]
            words = [sys.executable, "-P", "-m", "ferrisdb.workers.reader", self._directory]
            try:
                process = subprocess.Popen(
                    [*words, str(number), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), wake_fd, *(fd for fd, _ in listeners)],
                    # A worker multiplies no matrices: NumPy need not have threads for that.
                    env={"OPENBLAS_NUM_THREADS": "1", **os.environ}
                    | {"PYTHONPATH": service.python_path()},
                )
            except OSError as error:
                ours.close()
                _log.error("can't start reader worker %d: %s", number, error)
                self._inbox.put(ReaderGone(number, None))
                self._ring()
                return
        worker = self._workers[number] = _Worker(number, process, QueuedChannel(ours))
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._serve(worker))
        self._send(
            worker,
            ReaderStart(
                number=number,
                generation=self._generation,
                parent_pid=os.getpid(),
                options=self._options,
                listeners=tuple(listeners),
                wake_fd=wake_fd,
            ),
        )

    def _bury(self, worker: _Worker) -> None:
        self._selector.unregister(worker.channel)
        worker.channel.close()
        del self._workers[worker.number]
        try:
            # Its end of the channel is closed: it is at its end, or should be.
            code = worker.process.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            code = worker.process.wait()
        if self._kill_at_ns is None:
            self._inbox.put(ReaderGone(worker.number, code))
            self._ring()
        self._broadcast(PeerGone(worker.number))

    def _stop(self, patience_ns: int) -> None:
        self._kill_at_ns = self._clock.monotonic_ns() + patience_ns
        self._watch_no_more()
        self._broadcast(Leave())

    def _patience_s(self) -> float | None:
        if self._kill_at_ns is None:
            return None
        return max(0.0, (self._kill_at_ns - self._clock.monotonic_ns()) / 1e9)

    def _kill_late(self) -> None:
        is_late = self._kill_at_ns is not None and self._clock.monotonic_ns() >= self._kill_at_ns
        for worker in list(self._workers.values()):
            if is_late or worker.channel.is_stuck:
                why = "has not left" if is_late else "takes no messages"
                _log.warning("reader worker %d %s: killed", worker.number, why)
                worker.process.kill()
                self._bury(worker)

    # Messages

    def _serve(self, worker: _Worker) -> None:
        if self._workers.get(worker.number) is not worker:
            return  # buried meanwhile
        worker.channel.flush()
        try:
            messages = worker.channel.receive()
        except EOFError:
            self._bury(worker)
            return
        for message in messages:
            self._carry(worker, message)
        self._watch(worker)

    def _carry(self, worker: _Worker, message: object) -> None:
        number = worker.number
        match message:
            case Up():
                worker.is_up = True
                self._inbox.put(ReaderUp(number, message.index, message.client_id))
                self._ring()
                for tell in self._kept.values():
                    self._send(worker, Told(tell.request))
            case Ask():
                others = [one for one in self._others(number) if one.is_up]
                self._send(worker, Asked(message.ask_no, tuple(one.number for one in others)))
                for one in others:
                    self._send(one, Question(number, message.ask_no, message.request))
            case Answer():
                asker = self._workers.get(message.asker)
                if asker is not None:
                    self._send(asker, Answered(message.ask_no, number, message.answer))
            case Tell():
                if message.key is not None:
                    self._kept[message.key] = message
                for one in self._others(number):
                    if one.is_up:
                        self._send(one, Told(message.request))
            case ShutDown():
                _log.info("a client of reader worker %d ends the service", number)
                self._inbox.put(ExitWanted(ExitCode.OK))
                self._ring()

    def _others(self, number: int) -> list[_Worker]:
        return [one for one in self._workers.values() if one.number != number]

    def _broadcast(self, message: object) -> None:
        for worker in self._workers.values():
            self._send(worker, message)

    def _send(self, worker: _Worker, message: object) -> None:
        worker.channel.send(message)
        self._watch(worker)

    def _watch(self, worker: _Worker) -> None:
        events = selectors.EVENT_READ
        if worker.channel.has_output:
            events |= selectors.EVENT_WRITE
        key = self._selector.get_key(worker.channel)
        if key.events != events:
            self._selector.modify(worker.channel, events, key.data)
