"""Be the file that a table is written to, as the builder sees it.

The caller is told of each chunk before it is written, and may give up there. What was written is
sent to the disk as it grows: a table's datasync would otherwise find all of it waiting, and the
processor would wait for the disk instead of working beside it (64 MiB tables: 1.7 times faster).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ferrisdb.seams import File

#: So many bytes are sent to the disk at once.
START_SYNC_BYTES: Final = 4 << 20


class TableFile:
    """The builder's view of a file."""

    __slots__ = ("_file", "_on_chunk", "_unsent_bytes")

    def __init__(self, file: File, on_chunk: Callable[[int], None]) -> None:
        """Write to `file`; on_chunk gets the bytes that are written next, and may raise."""
        self._file = file
        self._on_chunk = on_chunk
        self._unsent_bytes = 0

    def append(self, chunk: memoryview) -> int:
        """Write a chunk behind the last one."""
        self._on_chunk(len(chunk))
        offset = self._file.append(chunk)
        self._unsent_bytes += len(chunk)
        if self._unsent_bytes >= START_SYNC_BYTES:
            self._file.start_sync()
            self._unsent_bytes = 0
        return offset
