"""Say what is loaded: a directory's service, attached or by its socket, or a server by an address.

    DIR                                  attach, as Python programs do
    DIR with --socket, unix://PATH, or the path of a socket itself
    redis://[USER[:PASSWORD]@]HOST[:PORT]        TCP
    rediss://[USER[:PASSWORD]@]HOST[:PORT]       TLS

A password may also stand in the environment, as redis-cli has it: REDISCLI_AUTH. There others
don't see it among the processes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

PASSWORD_VARIABLE: Final = "REDISCLI_AUTH"
PORT_DEFAULT: Final = 6379


class TargetError(ValueError):
    """A target can't be used; the message says what one looks like."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to load, and how it is reached."""

    #: As people wrote it, without a password.
    text: str
    #: Of the service; its processes attach, or find its socket.
    directory: str | None = None
    by_socket: bool = False
    socket_path: str | None = None
    host: str | None = None
    port: int = PORT_DEFAULT
    is_tls: bool = False
    #: PEM file of who signed the server's certificate; None: whom the system trusts.
    ca_file: str | None = None
    checks_certificate: bool = True
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_attached(self) -> bool:
        """Tell whether clients attach to the service's memory."""
        return self.directory is not None and not self.by_socket


def parse_target(
    text: str,
    *,
    by_socket: bool = False,
    ca_file: str | None = None,
    checks_certificate: bool = True,
    environment: Mapping[str, str] = os.environ,
) -> Target:
    """Return the target that a text names.

    Raises:  TargetError.
    """
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in ("redis", "rediss"):
        if by_socket:
            raise TargetError("--socket is for a directory; an address is a socket anyway")
        return _of_address(text, scheme, ca_file, checks_certificate, environment)
    if ca_file is not None or not checks_certificate:
        raise TargetError("certificates are for rediss:// alone")
    if scheme == "unix":
        return _of_path(text.removeprefix("unix://"), False, environment)
    if scheme:
        raise TargetError(
            f"there is no {scheme}:// here: a target is a directory, a socket's path, "
            "redis://HOST:PORT or rediss://HOST:PORT"
        )
    return _of_path(text, by_socket, environment)


def _of_path(path: str, by_socket: bool, environment: Mapping[str, str]) -> Target:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise TargetError(
            f"{path}: {error.strerror}; a target is a service's directory, a socket's path, "
            "redis://HOST:PORT or rediss://HOST:PORT"
        ) from None
    if stat.S_ISDIR(mode):
        return Target(path, directory=os.path.abspath(path), by_socket=by_socket)
    if stat.S_ISSOCK(mode):
        password = environment.get(PASSWORD_VARIABLE)
        return Target(path, socket_path=os.path.abspath(path), password=password)
    raise TargetError(f"{path} is neither a directory nor a socket")


def _of_address(
    text: str,
    scheme: str,
    ca_file: str | None,
    checks_certificate: bool,
    environment: Mapping[str, str],
) -> Target:
    try:
        parts = urlsplit(text)
        port = parts.port or PORT_DEFAULT
    except ValueError as error:
        raise TargetError(f"{_without_password(text)}: {error}") from None
    shown = _without_password(text)
    if not parts.hostname:
        raise TargetError(f"{shown} names no host: write {scheme}://HOST:PORT")
    if parts.path not in ("", "/", "/0") or parts.query or parts.fragment:
        raise TargetError(f"{shown}: nothing stands behind the port")
    is_tls = scheme == "rediss"
    if not is_tls and (ca_file is not None or not checks_certificate):
        raise TargetError("certificates are for rediss:// alone")
    password = unquote(parts.password) if parts.password else environment.get(PASSWORD_VARIABLE)
    user = unquote(parts.username) if parts.username else None
    if user is not None and password is None:
        raise TargetError(
            f"{shown} names a user without a password: write {scheme}://USER:PASSWORD@HOST:PORT, "
            f"or put the password into {PASSWORD_VARIABLE}"
        )
    return Target(
        shown,
        host=parts.hostname,
        port=port,
        is_tls=is_tls,
        ca_file=ca_file,
        checks_certificate=checks_certificate,
        user=user,
        password=password,
    )


def _without_password(text: str) -> str:
    scheme, _, rest = text.partition("://")
    credentials, at, place = rest.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}://{user}{at}{place}"
