"""Be a reader worker: serve socket clients as one attached process of many.

Reads are answered here, from mapped tables and shared memtables; writes go through this process's
ring, many connections' in one batch. The event loop is kernel code (kernel/server.pyx), commands
are resp's; here is how the process comes up and goes.

W1  The process dies with its coordinator (parent.py), and serves its generation only.
W2  The main thread runs the loop. A second thread waits for the hub's messages and for signals,
    and posts what is to be done into the loop.
W3  Told to leave, it takes no more connections, answers what has come, and closes: within
    LEAVE_NS, after which the hub would kill it. SIGTERM means the same; the hub starts another.
    SIGINT and SIGHUP are the coordinator's business, which a terminal sends to all of us.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ferrisdb.attached import Attached
from ferrisdb.errors import Error
from ferrisdb.exit_codes import ExitCode, for_error
from ferrisdb.kernel.ring import DURABILITIES
from ferrisdb.kernel.server import SocketServer
from ferrisdb.resp import all_commands
from ferrisdb.resp.service import Service
from ferrisdb.seams import RealClock
from ferrisdb.shm.client import METRIC_READER, metrics_of
from ferrisdb.workers.channel import Channel
from ferrisdb.workers.log import configure_log
from ferrisdb.workers.parent import OrphanedError, die_with_parent
from ferrisdb.workers.peers import Peers
from ferrisdb.workers.reader_messages import Leave, ReaderStart, Reload, Up

ATTACH_S = 10.0
LEAVE_NS = 3_000_000_000
FINISH_TURN_NS = 10_000_000
_TURN_NS = 3_600_000_000_000
_SPARE_FDS = 256
"""Descriptors beside those of connections: tables, segments, listening sockets."""

_log = logging.getLogger("ferrisdb.reader")


class Reader:
    """One worker process."""

    def __init__(self, directory: str, channel: Channel, start: ReaderStart) -> None:
        """Attach to the coordinator's generation.

        Raises: OrphanedError, another coordinator serves; what attaching raises.
        """
        options = start.options
        assert all_commands.MODULES, "the registry is full once they are imported"
        self._channel = channel
        self._clock = RealClock()
        self._code = ExitCode.OK
        self._leave_at_ns: int | None = None
        self._attached = Attached(
            directory, start=False, timeout=ATTACH_S, durability=options.socket_durability
        )
        if self._attached.generation != start.generation:
            raise OrphanedError(f"generation {start.generation} is over")
        # For `stats`: which of the clients are workers.
        metrics_of(self._attached.registration.segment)[METRIC_READER] = start.number + 1
        self._service = Service(
            self._attached,
            self._clock,
            durability=DURABILITIES[options.socket_durability],
            worker_number=start.number,
            options=options,
        )
        self._server = SocketServer(
            self._attached,
            self._service,
            wake_fd=start.wake_fd,
            **self._service.settings.limits(),
        )
        self._service.server = self._server
        self._peers = Peers(
            start.number,
            self._clock,
            send=self._send,
            answer=self._service.answer,
            wake=self._server.stop,
        )
        self._service.peers = self._peers
        self._listeners = start.listeners
        for fd, kind in start.listeners:
            os.set_inheritable(fd, False)
            self._server.listen(fd, kind)

    def run(self) -> ExitCode:
        """Serve until told to leave; returns the exit code."""
        registration = self._attached.registration
        with _signals() as signals:
            self._send(Up(registration.index, registration.client_id))
            listener = threading.Thread(
                target=self._listen, args=(signals,), name="hub-listener", daemon=True
            )
            listener.start()
            while self._leave_at_ns is None:
                self._turn(self._clock.monotonic_ns() + _TURN_NS)
            self._finish(self._leave_at_ns)
        self._attached.close()
        return self._code

    def _turn(self, deadline_ns: int) -> None:
        self._server.run(min(deadline_ns, self._peers.deadline_ns or deadline_ns))
        self._peers.expire()

    # Leaving

    def _leave(self, code: ExitCode = ExitCode.OK) -> None:
        if self._leave_at_ns is None:
            self._code = code
            self._leave_at_ns = self._clock.monotonic_ns() + LEAVE_NS
            self._server.stop()

    def _finish(self, deadline_ns: int) -> None:
        """Answer what has come, and close behind it (W3)."""
        for fd, _ in self._listeners:
            self._server.unlisten(fd)
        for conn in self._server.connections():
            with socket.socket(fileno=self._server.describe(conn)["fd"]) as found:
                # As if the client had nothing more to say: the server closes behind its answers.
                with contextlib.suppress(OSError):
                    found.shutdown(socket.SHUT_RD)
                found.detach()
        while self._server.connections() and self._clock.monotonic_ns() < deadline_ns:
            self._turn(min(deadline_ns, self._clock.monotonic_ns() + FINISH_TURN_NS))
        self._server.close_all(flush=False)

    # The hub

    def _send(self, message: object) -> None:
        try:
            self._channel.send(message)
        except OSError:
            self._leave(ExitCode.ORPHANED)

    def _listen(self, signals: socket.socket) -> None:
        """Post what comes from the hub, or by a signal, into the loop; in a thread of its own."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(signals, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == signals.fileno():
                    if signal.SIGTERM in signals.recv(64):
                        self._server.post(self._leave)
                    continue
                try:
                    message = self._channel.receive()
                except EOFError:
                    self._server.post(lambda: self._leave(ExitCode.ORPHANED))
                    return
                self._post(message)

    def _post(self, message: object) -> None:
        self._server.post(lambda: self._take(message))

    def _take(self, message: object) -> None:
        if self._peers.take(message):
            return
        match message:
            case Leave():
                self._leave()
            case Reload():
                configure_log(message.log_level)
                self._service.reload(tells=False)


def main(directory: str, channel: Channel) -> ExitCode:
    """Run the process; returns its exit code.

    Shape: channel, our end; the first message says the rest.
    """
    try:
        start: ReaderStart = channel.receive()
        configure_log(start.options.log_level)
        die_with_parent(start.parent_pid)
        raise_descriptor_limit(start.options.connection_count_max + _SPARE_FDS)
        return Reader(directory, channel, start).run()
    except (OrphanedError, EOFError) as reason:
        _log.info("leaving: %s", reason or "the coordinator closed the channel")
        return ExitCode.ORPHANED
    except Error as error:
        _log.error("the reader worker can't serve: %s", error)
        return for_error(error)
    except Exception:
        _log.exception("the reader worker failed")
        return ExitCode.INTERNAL


def raise_descriptor_limit(count: int) -> None:
    """Let this process have `count` descriptors, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), hard))


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Have the numbers of the signals that come sent to a socket: the loop may be in C (W2)."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        former = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, _ignored)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(former)


def _ignored(number: int, frame: FrameType | None) -> None:
    # Its number went to the wakeup descriptor already.
    del number, frame


def _from_words(words: list[str]) -> Any:
    """Return `main`'s arguments: directory, the worker's number (for people), a descriptor."""
    directory, _, fd = words
    os.set_inheritable(int(fd), False)
    return directory, Channel(socket.socket(fileno=int(fd)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(main(*_from_words(sys.argv[1:])))
