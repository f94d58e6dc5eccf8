"""Find out who is at the other end of a Unix socket, and what that lets it do.

U1  The service's own user is let in and may do everything: it could read the files anyway.
U2  Others are let in only if they are members of `socket_group`; then they are the user `default`
    of users.toml if there is one, and must AUTH if there is none.
U3  Over TCP nobody is anybody before AUTH.
"""

from __future__ import annotations

import grp
import os
import socket
import struct
import sys
from typing import Final, NamedTuple

_CREDENTIALS: Final = struct.Struct("3i")
_SO_PEERGROUPS: Final = 59
_GROUP_COUNT_MAX: Final = 256
"""What Python's `getsockopt` can return; who is in more of them counts by its primary one."""


class Peer(NamedTuple):
    """A process at the other end, as it was when it connected."""

    uid: int
    groups: frozenset[int]


def peer_of(fd: int) -> Peer | None:
    """Return who connected to a Unix socket; None if the system does not say."""
    try:
        with socket.socket(fileno=os.dup(fd)) as end:
            if hasattr(socket, "SO_PEERCRED"):
                raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                _, uid, gid = _CREDENTIALS.unpack(raw)
                return Peer(uid, frozenset([gid, *_groups(end)]))
            if sys.platform == "darwin":
                return _darwin_peer(end)
    except OSError:
        pass  # who can't be known is nobody
    return None


def _groups(end: socket.socket) -> tuple[int, ...]:
    """Return the supplementary groups; kernels before 4.13 don't say."""
    try:
        raw = end.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _GROUP_COUNT_MAX)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}i", raw)


def _darwin_peer(end: socket.socket) -> Peer | None:
    # struct xucred: version, uid, number of groups, 16 groups.
    raw = end.getsockopt(0, 1, 76)
    version, uid, count = struct.unpack_from("=IIh", raw)
    if version != 0 or not 0 <= count <= 16:
        return None
    return Peer(uid, frozenset(struct.unpack_from(f"={count}I", raw, 12)))


def own_user() -> int:
    """Return the user that this process acts for."""
    return os.geteuid()


def group_id(name: str | None) -> int | None:
    """Return a group's number; None if there is no such group."""
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
