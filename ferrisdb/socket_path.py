"""Say where the Unix socket of a directory's service is, for whoever wants to connect.

It is always DIR/ferris.sock. The kernel takes no path of more than PATH_BYTES_MAX bytes at once,
though; for a longer one there is a second, short name, a symbolic link to it, in a directory that
belongs to the service's user alone:

    $XDG_RUNTIME_DIR/ferrisdb-DEVICE-INODE.sock       device and inode of DIR, in hex
    TMP/ferrisdb-UID/ferrisdb-DEVICE-INODE.sock       where there is no XDG_RUNTIME_DIR

So a socket goes where its directory goes, and a copied or checkpointed directory never leads to
the socket of another one.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import Final

from ferrisdb.format.filenames import DIR, FileKind

PATH_BYTES_MAX: Final = 107 if sys.platform == "linux" else 103
"""Longest path that bind and connect take: sun_path without its zero byte."""


def socket_path(directory: str) -> str:
    """Return the path of the directory's socket, whatever its length."""
    return DIR(os.path.abspath(directory)).fixed(FileKind.SOCKET)


def fits(path: str) -> bool:
    """Tell whether bind and connect take the path."""
    return len(os.fsencode(path)) <= PATH_BYTES_MAX


def connect_path(directory: str) -> str | None:
    """Return the path by which clients reach the socket that is there; None if there is none.

    A path that is too long to connect to is returned if there is no other: it can be reached from
    within its directory.
    """
    path = socket_path(directory)
    if not _is_socket(path):
        return None
    if fits(path):
        return path
    for alias in aliases(directory):
        if os.path.islink(alias) and os.readlink(alias) == path:
            return alias
    return path


def aliases(directory: str) -> Iterator[str]:
    """Yield where a short name for the directory's socket may lie, the better place first."""
    # Imported here: for most directories nobody comes here.
    import tempfile

    status = os.stat(directory)
    name = f"ferrisdb-{status.st_dev:x}-{status.st_ino:x}.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):
        yield os.path.join(runtime, name)
    yield os.path.join(tempfile.gettempdir(), f"ferrisdb-{os.getuid()}", name)


def is_private(directory: str) -> bool:
    """Tell whether a directory is there, ours, and nobody else can put names into it."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not (status.st_mode & others)
    )


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
