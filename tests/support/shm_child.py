"""A process that attaches, locks or maps, says so, and waits to be killed or told to go.

Run as `python -m tests.support.shm_child ROLE DIRECTORY`; answers with one line on stdout when
it is ready, and leaves when its stdin is closed.
"""

from __future__ import annotations

import os
import subprocess
import sys

from ferrisdb.kernel import layout
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.names import SegmentNames, large_number
from ferrisdb.shm.registry import ClientRegistration
from ferrisdb.shm.segment import Segment

CLIENT_ID = bytes(range(16))


def start(role: str, directory: object) -> tuple[subprocess.Popen[bytes], str]:
    """Start a child and return it with the line that it said when it was ready."""
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, role, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if child.stdout is None:
        raise RuntimeError("a pipe was asked for")
    return child, child.stdout.readline().decode().strip()


def stop(child: subprocess.Popen[bytes], *, kill: bool) -> None:
    """Kill the child, or let it leave, and wait for its end."""
    if kill:
        child.kill()
    child.communicate(timeout=20)


def _say(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _names(directory: str) -> SegmentNames:
    names = SegmentNames.read(directory)
    if names is None:
        raise RuntimeError("no names")
    return names


def main(role: str, directory: str) -> None:
    """Play one role until stdin ends."""
    if role == "lock":
        lock = DirectoryLock(directory)
        _say(lock.try_acquire())
    elif role == "client":
        registration = ClientRegistration.claim(directory, _names(directory), CLIENT_ID)
        _say(registration.index)
    elif role == "large-client":
        names = _names(directory)
        registration = ClientRegistration.claim(directory, names, CLIENT_ID)
        number = large_number(registration.index, 7)
        with registration.segment.view as view:
            layout.store64(view, layout.CLIENT_LARGE, number)
        Segment.create(names.name("x", number), 4096)
        _say(registration.index)
    elif role == "mapper":
        names = _names(directory)
        segment = Segment.open(names.name("m", 1), writable=False)
        _say(segment.view[0] if segment else None)
        sys.stdin.buffer.readline()
        _say(segment.view[0] if segment else None)
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
