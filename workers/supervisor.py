"""Tell systemd how the service is, if it started it (sd_notify(3)); otherwise do nothing."""

from __future__ import annotations

import logging
import os
import socket

from ferrisdb.seams import Clock

_log = logging.getLogger("ferrisdb.coordinator")


def notify(state: str) -> None:
    """Tell systemd a state, such as `READY=1`, if it asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.connect(address)
            channel.sendall(state.encode())
        except OSError as error:
            _log.warning("can't reach NOTIFY_SOCKET: %s", error)


class Watchdog:
    """Says that the commit loop goes on, at half of the interval that systemd asks for.

    Units: interval_ns, 0: it doesn't ask.
    """

    def __init__(self, clock: Clock, interval_ns: int) -> None:
        self._clock = clock
        self._interval_ns = interval_ns
        self._due_ns = 0

    @classmethod
    def from_environment(cls, clock: Clock) -> Watchdog:
        """Make the one that WATCHDOG_USEC asks for, if it is meant for this process."""
        usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        is_ours = not pid or pid == str(os.getpid())
        return cls(clock, int(usec) * 1000 if usec.isdigit() and is_ours else 0)

    def tick(self) -> None:
        """Tell systemd, if it is time to."""
        if not self._interval_ns:
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + self._interval_ns // 2
            notify("WATCHDOG=1")
