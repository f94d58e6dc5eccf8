"""The figures of one worker, as INFO adds them up over all."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service

Figures = dict[str, int]

_KEPT = ("connections_now",)
"""What is a state, and begins nowhere."""


def figures(service: Service) -> Figures:
    """Return this worker's figures; counters since its start, or CONFIG RESETSTAT."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    counters = {
        name: value - (0 if name in _KEPT else service.counted_before.get(name, 0))
        for name, value in service.server.counters.items()
    }
    return {
        **counters,
        "pid": os.getpid(),
        "started_us": service.started_us,
        "resident_bytes": psutil.Process().memory_info().rss,
        "user_us": int(usage.ru_utime * 1e6),
        "system_us": int(usage.ru_stime * 1e6),
    }


def reset_figures(service: Service) -> None:
    """Let the counters begin at 0 again."""
    service.counted_before = dict(service.server.counters)
