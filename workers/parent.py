"""Die with the coordinator: what every worker does first.

On Linux the kernel sends SIGKILL when the thread that started the worker ends (PDEATHSIG);
elsewhere the worker leaves at the end of its pipe.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_TIMER_SLACK_NS = 1000
_log = logging.getLogger("ferrisdb.workers")


class OrphanedError(Exception):
    """The coordinator that started this process is gone, or replaced."""


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the coordinator dies.

    The signal comes when the *thread* that started us ends: the coordinator must start workers
    from a thread that lives as long as it does.

    Raises: OrphanedError, it is dead already.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, "PDEATHSIG")
    # It may have died before the call; then init or a subreaper is our parent.
    if os.getppid() != parent_pid:
        raise OrphanedError("the coordinator died before its worker had started")


def wake_on_time() -> None:
    """Have this thread's sleeps end when they are to: Linux adds up to 50 µs unless told not to."""
    if sys.platform == "linux":
        _prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, "timer slack")


def _prctl(option: int, value: int, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        _log.warning("no %s: %s", name, os.strerror(ctypes.get_errno()))
