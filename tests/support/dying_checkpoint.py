"""Die by SIGKILL before each call of a checkpoint to the file system, one process for each.

Run as `python -m tests.support.dying_checkpoint DIRECTORY TARGET`; prints, for each call at which
a process died, whether TARGET was there and what was left beside it; `whole` where none died.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import Any

import ferrisdb
from ferrisdb import checkpoint
from ferrisdb.seams import RealFile, RealFileSystem

CALL_COUNT_MAX = 100


class DyingFileSystem(RealFileSystem):
    """Kills its process before the call of a given number."""

    calls_left = 0

    def _count(self) -> None:
        DyingFileSystem.calls_left -= 1
        if DyingFileSystem.calls_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def create(self, path: str) -> RealFile:
        self._count()
        return super().create(path)

    def link(self, source: str, target: str) -> None:
        self._count()
        super().link(source, target)

    def rename(self, source: str, target: str) -> None:
        self._count()
        super().rename(source, target)

    def sync_dir(self, path: str) -> None:
        self._count()
        super().sync_dir(path)


def main(directory: str, target: str) -> None:
    """Die at one call after the other, until there is none left to die at."""
    replaced: Any = checkpoint
    replaced.RealFileSystem = DyingFileSystem
    for calls in range(CALL_COUNT_MAX):
        pid = os.fork()
        if pid == 0:
            DyingFileSystem.calls_left = calls
            with ferrisdb.open(directory, timeout=60) as db:
                db.checkpoint(target)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            sys.stdout.write("whole\n")
            return
        mark = f"{os.path.basename(target)}.tmp-"
        left = [name for name in os.listdir(os.path.dirname(target)) if name.startswith(mark)]
        sys.stdout.write(f"{os.path.exists(target):d} {len(left)}\n")
        if os.path.exists(target):
            shutil.rmtree(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
