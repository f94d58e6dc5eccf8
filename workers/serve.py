"""Run the service of one directory in the foreground, until a signal or its own decision.

Signals only note what is wanted; the one supervising loop (`Coordinator.run`) acts on it, behind
the recovery if it is not over. SIGTERM and SIGINT stop cleanly, SIGHUP reads DIR/ferrisdb.toml
again (the log level; what shapes memory and files takes a restart) and has the reader workers read
DIR/users.toml.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any

from ferrisdb.engine.open import is_database
from ferrisdb.errors import AccessError, Error, StorageError
from ferrisdb.options import Options
from ferrisdb.seams import RealClock, RealFileSystem, RealRng
from ferrisdb.service import START_FAILED, STARTED_BY_OPEN
from ferrisdb.shm.locks import DirectoryLock, check_file_system
from ferrisdb.workers.children import CompactorProcess
from ferrisdb.workers.coordinator import Coordinator
from ferrisdb.workers.listeners import Listeners, resolved
from ferrisdb.workers.log import configure_log
from ferrisdb.workers.parent import wake_on_time
from ferrisdb.workers.readers import Readers, ReadersFactory
from ferrisdb.workers.supervisor import Watchdog, notify

_log = logging.getLogger("ferrisdb.coordinator")


def main(directory: str, settings: Mapping[str, Any]) -> int:
    """Serve until told to stop; returns the exit code (exit_codes.ExitCode).

    Shape:  settings, those of the command line; they beat the directory's.
    Raises: what keeps a service from starting, as `Coordinator` and the lock raise it.
    """
    try:
        options = Options.load(directory, settings)
        configure_log(options.log_level)
        directory = _make_directory(directory)
        check_file_system(directory)
        # Before LOCK is made in it: a directory of something else is left as it is.
        is_database(RealFileSystem(), directory)
        lock = DirectoryLock(directory)
        lock.acquire()
    except Error as error:
        configure_log("info")
        _tell_starter(error)
        raise
    with lock:
        try:
            # Before recovery: what can't be served is refused at once.
            listeners = _open_sockets(directory, options)
        except Error as error:
            _tell_starter(error)
            raise
        try:
            return _serve(directory, options, settings, lock, listeners)
        finally:
            if listeners is not None:
                listeners.close()


def _open_sockets(directory: str, options: Options) -> Listeners | None:
    if not options.worker_count:
        return None
    return Listeners.open(directory, resolved(directory, options))


def _serve(
    directory: str,
    options: Options,
    settings: Mapping[str, Any],
    lock: DirectoryLock,
    listeners: Listeners | None,
) -> int:
    signals = _Signals(directory, settings)
    readers: ReadersFactory | None = None
    if listeners is not None:
        # A service that nobody started by name does nothing that nobody asked for.
        lazily = STARTED_BY_OPEN in os.environ
        readers = partial(Readers, listeners=listeners, lazily=lazily)
    try:
        coordinator = Coordinator(
            directory,
            resolved(directory, options),
            fs=RealFileSystem(),
            clock=RealClock(),
            rng=RealRng(),
            compactor=CompactorProcess,
            readers=readers,
            is_gone=lambda: not lock.is_named,
            on_tick=Watchdog.from_environment(RealClock()).tick,
        )
    except Error as error:
        _tell_starter(error)
        raise
    signals.serve(coordinator)
    notify(f"READY=1\nSTATUS=serving {directory}")
    _log.info("serving %s, generation %d", directory, coordinator.generation)
    for listener in listeners.sockets if listeners is not None else ():
        _log.info("listening at %s", listener.place)
    try:
        wake_on_time()
        code = coordinator.run()
        notify("STOPPING=1\nSTATUS=stopping")
    finally:
        coordinator.stop()
    _log.info("stopped %s", directory)
    return int(code)


def _tell_starter(error: Error) -> None:
    # Whoever ran us in a terminal reads the command's one line; `open` needs the code.
    if os.environ.get(STARTED_BY_OPEN):
        _log.critical("%s%d: %s", START_FAILED, error.wire_code, error)


def _make_directory(directory: str) -> str:
    directory = os.path.abspath(directory)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except PermissionError as error:
        raise AccessError(error.errno, f"no permission to make {directory}") from error
    except OSError as error:
        raise StorageError(error.errno, f"can't make {directory}: {error.strerror}") from error
    return directory


class _Signals:
    """What signals want of the service; noted, too, while it comes up, and done when it is up."""

    def __init__(self, directory: str, settings: Mapping[str, Any]) -> None:
        self._directory, self._settings = directory, settings
        self._coordinator: Coordinator | None = None
        self._is_over = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._reload)

    def serve(self, coordinator: Coordinator) -> None:
        """Have the coordinator do what is wanted from now on."""
        self._coordinator = coordinator
        if self._is_over:
            coordinator.request_exit()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_over = True
        if self._coordinator is not None:
            self._coordinator.request_exit()

    def _reload(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        try:
            options = Options.load(self._directory, self._settings)
        except Error as error:
            _log.error("settings not read again: %s", error)
            return
        configure_log(options.log_level)
        if self._coordinator is not None:
            self._coordinator.reload(options)
