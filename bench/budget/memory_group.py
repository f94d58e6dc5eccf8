"""Limit the memory of some processes: a control group of the kernel, version 1 or 2.

What counts is all that the group's processes touch first: their own memory, shared memory, and
the page cache of files that nobody outside has in memory already.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ferrisdb.bench.budget.figures import BudgetError

V1: Final = Path("/sys/fs/cgroup/memory")
V2: Final = Path("/sys/fs/cgroup")
REMOVE_S: Final = 10.0


class MemoryGroup:
    """A control group, as long as it is entered.

    Owner: whoever made it; every process of the group has to end before it is left.
    """

    def __init__(self, name: str, bytes_max: int, *, v1: Path = V1, v2: Path = V2) -> None:
        """Make it.

        Raises: BudgetError, this machine or user can't.
        """
        self.bytes_max = bytes_max
        self._is_v1 = (v1 / "memory.limit_in_bytes").exists()
        parent = v1 if self._is_v1 else v2
        self.path = parent / f"ferrisdb-{name}-{os.getpid()}"
        made = False
        try:
            if not self._is_v1 and "memory" not in (v2 / "cgroup.subtree_control").read_text():
                (v2 / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            made = True
            limit = "memory.limit_in_bytes" if self._is_v1 else "memory.max"
            (self.path / limit).write_text(str(bytes_max))
            self._forbid_swap(bytes_max)
        except OSError as error:
            if made:
                self.path.rmdir()
            raise BudgetError(
                f"can't limit memory by {self.path}: {error.strerror}; run as root on a machine"
                " whose memory controller is there, or leave the row out"
            ) from None

    def _forbid_swap(self, bytes_max: int) -> None:
        name, text = ("memory.memsw.limit_in_bytes", str(bytes_max)) if self._is_v1 else (
            "memory.swap.max", "0")  # fmt: skip
        # Where the kernel doesn't account for swap there is no such file.
        if (self.path / name).exists():
            (self.path / name).write_text(text)

    def join(self) -> None:
        """Put this process into the group; what it starts is in it, too."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def used_bytes(self) -> int:
        """Return what the group has in memory, page cache included."""
        name = "memory.usage_in_bytes" if self._is_v1 else "memory.current"
        return int((self.path / name).read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        give_up = time.monotonic() + REMOVE_S
        while True:
            try:
                self.path.rmdir()
                return
            except OSError:
                # The kernel may take a moment to bury the last process.
                if time.monotonic() > give_up:
                    raise
            time.sleep(0.02)
