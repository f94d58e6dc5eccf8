"""Make the sockets that clients connect to: Unix always, TCP and TLS where they are set.

The coordinator makes them, under LOCK, and keeps them for as long as it lives; its reader workers
accept from the same sockets, so a connection waits in the backlog while no worker is there.

L1  Sockets are made before recovery, so that what can't be served is refused at once. Who
    connects while it lasts waits in the backlog.
L2  The Unix socket is made under a temporary name, gets its mode and group, and then its name: it
    replaces that of a service that was killed, and nobody meets it with other permissions.
L3  TCP needs users with passwords. The Unix socket does not: the kernel says who connects.
L4  A name is removed only if it still leads to our socket.

Owner: the coordinator's main thread; `waiting` may be called by any.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import select
import socket
import stat
import time
from dataclasses import dataclass, replace
from enum import IntEnum

from ferrisdb import socket_path
from ferrisdb.errors import AccessError, Error, UnavailableError, UsageError
from ferrisdb.format.filenames import TEMPORARY_SUFFIX
from ferrisdb.options import Options
from ferrisdb.seams import storage_error

BACKLOG = 4096
"""Connections that may wait for a worker; the kernel lowers it to its own bound."""

PORT_PATIENCE_S = 3.0
"""How long the workers of a coordinator that was killed may take to let its port go."""

_log = logging.getLogger("ferrisdb.coordinator")


class Kind(IntEnum):
    """What a socket is; the numbers are the kernel server's."""

    UNIX = 0
    TCP = 1
    TLS = 2


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket."""

    socket: socket.socket
    kind: Kind
    #: For people.
    place: str


class Listeners:
    """The listening sockets of one service."""

    def __init__(self) -> None:
        self._sockets: list[Listener] = []
        #: Names to remove: path, device and inode (L4).
        self._names: list[tuple[str, int, int]] = []
        self._poll = select.poll()

    @classmethod
    def open(cls, directory: str, options: Options) -> Listeners:
        """Open every socket that the settings want.

        Shape:  directory, absolute; options, resolved.
        Raises: UsageError, what is set can't be; AccessError; UnavailableError, a port is in use;
                StorageError: nothing is left then.
        Owner:  the holder of LOCK.
        """
        self = cls()
        try:
            _check_users(directory, options)
            self._bind_unix(directory, options.socket_group)
            if options.tcp_port is not None:
                self._bind_tcp(options.tcp_host, options.tcp_port, Kind.TCP)
            if options.tls_port is not None:
                _check_certificate(options)
                self._bind_tcp(options.tcp_host, options.tls_port, Kind.TLS)
            for listener in self._sockets:
                self._poll.register(listener.socket, select.POLLIN)
        except BaseException:
            self.close()
            raise
        return self

    @property
    def sockets(self) -> tuple[Listener, ...]:
        """The sockets, the Unix one first."""
        return tuple(self._sockets)

    def waiting(self) -> bool:
        """Tell whether a connection waits for a worker."""
        return bool(self._poll.poll(0))

    def unlink(self) -> None:
        """Remove the names: who comes from now on is told that no service runs. Idempotent."""
        names, self._names = self._names, []
        for path, device, inode in names:
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if (status.st_dev, status.st_ino) == (device, inode):
                    os.unlink(path)

    def close(self) -> None:
        """Remove the names, and close the sockets; idempotent."""
        self.unlink()
        for listener in self._sockets:
            listener.socket.close()
        self._sockets = []

    # Unix

    def _bind_unix(self, directory: str, group: str | None) -> None:
        path = socket_path.socket_path(directory)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise UsageError(f"{path} is in the way of the service's socket: move it")
        gid = None if group is None else _group_id(group)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sockets.append(Listener(made, Kind.UNIX, path))
        made.setblocking(False)
        temporary = path + TEMPORARY_SUFFIX
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            _bind_path(made, temporary)
            if gid is not None:
                _give_to_group(temporary, gid)
            made.listen(BACKLOG)
            os.rename(temporary, path)
            self._note(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, Error):
                raise
            raise storage_error(error, path) from error
        if gid is not None:
            _check_way(directory, str(group), gid)
        if not socket_path.fits(path):
            self._make_alias(directory, path)

    def _make_alias(self, directory: str, path: str) -> None:
        for alias in socket_path.aliases(directory):
            parent = os.path.dirname(alias)
            if not socket_path.fits(alias):
                continue
            with contextlib.suppress(OSError):
                if os.path.basename(parent).startswith("ferrisdb-"):
                    os.makedirs(parent, mode=0o700, exist_ok=True)
                if not socket_path.is_private(parent):
                    continue
                temporary = f"{alias}.{os.getpid()}"
                os.symlink(path, temporary)
                os.rename(temporary, alias)
                self._note(alias)
                _log.info("the path of the socket is too long to connect to: use %s", alias)
                return
        _log.warning(
            "the path of %s is too long to connect to, and there is no directory of ours for a"
            " shorter name: set XDG_RUNTIME_DIR, or connect from within the directory",
            path,
        )

    def _note(self, path: str) -> None:
        status = os.lstat(path)
        self._names.append((path, status.st_dev, status.st_ino))

    # TCP

    def _bind_tcp(self, host: str, port: int, kind: Kind) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise UsageError(f"tcp_host is {host!r}: {error.strerror}") from error
        for family, _, protocol, _, address in dict.fromkeys(found):
            made = socket.socket(family, socket.SOCK_STREAM, protocol)
            place = f"{'tls' if kind is Kind.TLS else 'tcp'}://{_shown(address)}"
            self._sockets.append(Listener(made, kind, place))
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _bind_port(made, address, place)
            made.listen(BACKLOG)


def resolved(directory: str, options: Options) -> Options:
    """Return the settings with the paths that are relative to the directory made absolute."""
    certificate, key = options.tls_cert_file, options.tls_key_file
    return replace(
        options,
        tls_cert_file=None if certificate is None else os.path.join(directory, certificate),
        tls_key_file=None if key is None else os.path.join(directory, key),
    )


def _bind_path(made: socket.socket, path: str) -> None:
    # Mode 0600 from its first moment (L2).
    former = os.umask(0o177)
    try:
        if socket_path.fits(path):
            made.bind(path)
            return
        # Too long for the kernel: bound by its name alone, from within.
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.chdir(os.path.dirname(path))
            made.bind(os.path.basename(path))
        finally:
            os.fchdir(here)
            os.close(here)
    finally:
        os.umask(former)


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"socket_group is {group!r}: there is no such group") from None


def _give_to_group(path: str, gid: int) -> None:
    try:
        os.chown(path, -1, gid)
    except PermissionError as error:
        raise AccessError(
            error.errno, "the service's user is no member of socket_group", path
        ) from error
    os.chmod(path, 0o660)


def _check_way(directory: str, group: str, gid: int) -> None:
    status = os.stat(directory)
    may_pass = status.st_mode & stat.S_IXOTH or (
        status.st_mode & stat.S_IXGRP and status.st_gid == gid
    )
    if not may_pass:
        _log.warning(
            "members of %s can't reach the socket: chgrp %s %s; chmod g+x %s",
            group, group, directory, directory,
        )  # fmt: skip


def _bind_port(made: socket.socket, address: object, place: str) -> None:
    give_up = time.monotonic() + PORT_PATIENCE_S
    while True:
        try:
            made.bind(address)  # type: ignore[arg-type]  # as getaddrinfo returned it
            return
        except PermissionError as error:
            raise AccessError(error.errno, f"no permission to bind {place}") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"can't bind {place}: {error.strerror}") from error
            if time.monotonic() > give_up:
                raise UnavailableError(f"{place} is in use by another program") from error
        time.sleep(0.02)


def _shown(address: object) -> str:
    assert isinstance(address, tuple)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _check_users(directory: str, options: Options) -> None:
    """Refuse users that can't be read, and TCP where nobody could be asked for a password (L3).

    Raises: UsageError, AccessError, StorageError.
    """
    from ferrisdb.resp.users import load_users

    has_password = load_users(directory).has_password
    if (options.tcp_port, options.tls_port) != (None, None) and not has_password:
        raise UsageError(
            f"tcp_port and tls_port need a user with a password: {directory}/users.toml has none"
        )


def _check_certificate(options: Options) -> None:
    from ferrisdb.resp.tls import server_context

    if options.tls_cert_file is None:
        raise UsageError("tls_port needs tls_cert_file, and tls_key_file if the key is elsewhere")
    server_context(options.tls_cert_file, options.tls_key_file)
