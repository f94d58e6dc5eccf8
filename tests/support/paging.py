"""Drop a mapped file's pages from memory, and see which of them are there."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_MADV_PAGEOUT = 21
_LIBC = ctypes.CDLL(None, use_errno=True)


def page_out(path: Path) -> bool:
    """Drop the pages of a file that this process maps; tell whether hardly any is left."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # What isn't on the disk yet is not dropped.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(f" {path}"):
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            _LIBC.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_PAGEOUT)
    return resident_pages(path) * 100 <= path.stat().st_size // mmap.PAGESIZE


def resident_pages(path: Path) -> int:
    """Return how many pages of a file are in memory."""
    nbytes = path.stat().st_size
    count = -(-nbytes // mmap.PAGESIZE)
    present = ctypes.create_string_buffer(count)
    descriptor = os.open(path, os.O_RDWR)
    try:
        # Writable, for its address; nothing is written.
        with mmap.mmap(descriptor, nbytes) as mapped:
            first = ctypes.c_char.from_buffer(mapped)
            failed = _LIBC.mincore(
                ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(nbytes), present
            )
            del first
    finally:
        os.close(descriptor)
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(byte & 1 for byte in present.raw)
