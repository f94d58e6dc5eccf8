"""Find the service of a directory, and start one in the background if none runs.

A service that is started here has its own session, logs to DIR/service.log, and leaves a couple
of seconds after its last client. Whoever else starts one at the same moment loses the race for
LOCK and waits for the winner; mostly only one is started, see `_take_start`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from ferrisdb.errors import (
    AccessError,
    Error,
    NotADatabaseError,
    ProtocolError,
    StorageError,
    UnavailableError,
    by_wire_code,
)
from ferrisdb.kernel import layout
from ferrisdb.options import AUTO_IDLE_EXIT_S
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment

LOG_NAME = "service.log"
STARTED_BY_OPEN = "FERRISDB_STARTED_BY_OPEN"
"""Set in the environment of a service that `open` started."""
START_FAILED = "start failed: code "
"""What such a service writes before the wire code of why it could not start."""
_POLL_S = 0.003
_PATIENCE_NS = 5_000_000_000


@dataclass(slots=True)
class Service:
    """The shared pages of a running service, mapped."""

    names: SegmentNames
    control: ControlPage
    doorbell: Segment

    @property
    def generation(self) -> int:
        """Generation of its coordinator."""
        return self.control.generation


def find(directory: str) -> Service | None:
    """Map the pages of the service that runs for `directory`; None if none is up (yet).

    Raises: AccessError; ProtocolError, a service of another layout.
    """
    if not DirectoryLock.is_held(directory):
        return None
    names = SegmentNames.read(directory)
    if names is None:
        return None
    page = Segment.open(names.name("k", 0), writable=False)
    doorbell = Segment.open(names.name("d", 0), writable=True)
    if page is None or doorbell is None:
        return None
    try:
        control = ControlPage(page)
    except ProtocolError:
        if layout.load64(page.view, layout.CONTROL_MAGIC) == 0:
            return None
        raise
    if control.is_retired or control.generation == 0 or control.epoch == 0:
        return None
    return Service(names, control, doorbell)


def find_or_start(directory: str, *, start: bool, deadline_ns: int) -> Service:
    """Return the running service, starting one if allowed.

    Shape:  deadline_ns, on the monotonic clock.
    Raises: UnavailableError, none came up in time, or none may be started; NotADatabaseError and
            what else a start can fail with, as told by the service that tried.
    """
    begun_ns = time.monotonic_ns()
    log_begin: int | None = None
    while True:
        service = find(directory)
        if service is not None:
            return service
        now_ns = time.monotonic_ns()
        if not DirectoryLock.is_held(directory):
            if not start:
                _explain_absence(directory)
            log = _open_log(directory)
            try:
                # Past the patience even if it seems that somebody's start is under way.
                if _take_start(log) or now_ns - begun_ns > _PATIENCE_NS:
                    if log_begin is not None:
                        _raise_failure(directory, log_begin)
                    log_begin, begun_ns = os.fstat(log).st_size, now_ns
                    _spawn(directory, log)
            finally:
                os.close(log)
        if now_ns > deadline_ns:
            state = "is starting" if DirectoryLock.is_held(directory) else "did not start"
            raise UnavailableError(
                f"the service for {directory} {state} and was not ready in time; see"
                f" {os.path.join(directory, LOG_NAME)}"
            )
        time.sleep(_POLL_S)


def _explain_absence(directory: str) -> None:
    if not os.path.exists(os.path.join(directory, "CURRENT")):
        raise NotADatabaseError(
            f"there is no FerrisDB database in {directory}; start=True makes one"
        )
    raise UnavailableError(
        f"no service runs for {directory} and start=False forbids to start one:"
        f" run `ferrisdb serve {directory}`"
    )


def _open_log(directory: str) -> int:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return os.open(
            os.path.join(directory, LOG_NAME),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
    except PermissionError as error:
        raise AccessError(error.errno, f"no permission to write in {directory}") from error
    except OSError as error:
        raise StorageError(error.errno, f"can't use {directory}: {error.strerror}") from error


def _take_start(log: int) -> bool:
    """Take the right to start a service; False while one that was started so still lives.

    The lock goes with the descriptor, which the service keeps as its standard error: the kernel
    releases it when the service dies, in the middle of its start too.
    """
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _spawn(directory: str, log: int) -> None:
    """Start a service that outlives us and writes to the log."""
    arguments = [sys.executable, "-m", "ferrisdb.cli", "serve", directory]
    arguments += ["--idle-exit", str(AUTO_IDLE_EXIT_S)]
    # The shell goes at once and leaves the service to init: no child of ours to wait for.
    subprocess.run(
        ["/bin/sh", "-c", '"$@" &', "sh", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env=os.environ | {"PYTHONPATH": python_path(), STARTED_BY_OPEN: "1"},
        start_new_session=True,
    )


def python_path() -> str:
    """Return the PYTHONPATH with which a child imports the ferrisdb that we run."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    former = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([root, former] if former else [root])


def _raise_failure(directory: str, begin: int) -> None:
    """Raise what the service that we started said; return if it has said nothing (yet)."""
    with open(os.path.join(directory, LOG_NAME), "rb") as log:
        log.seek(begin)
        text = log.read().decode("utf-8", "replace")
    for line in text.splitlines():
        _, found, rest = line.partition(START_FAILED)
        code, _, message = rest.partition(": ")
        if not found or not code.isdigit() or int(code) == 52:
            continue
        kind = by_wire_code().get(int(code), UnavailableError)
        if issubclass(kind, StorageError):
            raise kind(0, message)
        raise _rebuilt(kind, directory, message)
    if "Traceback" in text:
        raise UnavailableError(f"the service did not start; see {LOG_NAME} in {directory}")


def _rebuilt(kind: type[Error], directory: str, message: str) -> Error:
    if kind.wire_code == 30:
        return kind(directory, 0, "a database that can be recovered", message)
    return kind(message)
