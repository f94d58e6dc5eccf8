"""Who may come in by the sockets, and what each may do: `DIR/users.toml`, mode 0600.

    [users."name"]
    password = "scrypt$16384$8$5$SALT$HASH"   # as `ferrisdb users DIR add` makes it
    read_only = false     # may not write
    admin = false         # may flush, configure, kill connections, shut down
    key_prefix = ""       # the only keys that exist for it begin with this

A user with a key prefix gets NOPERM for naming another key. Commands that find keys (KEYS, SCAN,
RANDOMKEY, DBSIZE, FERRIS.RANGE, FERRIS.DELRANGE) find those under the prefix only.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ferrisdb.errors import AccessError, StorageError, UsageError
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.resp.passwords import check_hash
from ferrisdb.seams import FileSystem

if TYPE_CHECKING:
    from ferrisdb.resp.command import Command

DEFAULT: Final = "default"
"""The user of AUTH with a password alone, and of members of the socket's group."""

NAME_RULE: Final = "1 to 64 letters, digits, or any of _ . @ -"
_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}").fullmatch

ADMIN_ONLY: Final = frozenset(
    [b"flushall", b"flushdb", b"config", b"shutdown", b"client|kill", b"debug"]
)
"""Commands, or whole containers, that need the admin flag."""

_NO_COMMAND: Final = b"this user has no permissions to run the '%b' command"
_NO_KEY: Final = b"this user has no permissions to access one of the keys used as arguments"


@dataclass(frozen=True, slots=True)
class User:
    """One user. Shape: password, its hash; None: it can't be given one by AUTH."""

    name: str
    password: str | None = None
    read_only: bool = False
    admin: bool = False
    key_prefix: bytes = b""

    @property
    def may_all(self) -> bool:
        """Whether it may read and write every key."""
        return not self.read_only and not self.key_prefix

    def refusal(self, command: Command, argv: list[bytes]) -> bytes | None:
        """Return why the user may not run a command, as NOPERM says it; None: it may."""
        name = command.name
        if not self.admin and (name in ADMIN_ONLY or name.partition(b"|")[0] in ADMIN_ONLY):
            return _NO_COMMAND % name
        if self.read_only and command.is_write:
            return _NO_COMMAND % name
        if self.key_prefix:
            for key in command.keys(argv):
                if not key.startswith(self.key_prefix):
                    return _NO_KEY
        return None


@dataclass(frozen=True, slots=True)
class Users:
    """All users, as one reading of the file has them."""

    by_name: dict[str, User] = field(default_factory=dict)
    #: What tells the file from a later one; None: there was none.
    stamp: tuple[int, int, int] | None = None

    @property
    def has_password(self) -> bool:
        """Whether anybody can come in by AUTH."""
        return any(user.password is not None for user in self.by_name.values())

    def get(self, name: bytes) -> User | None:
        """Return a user by its name as a client sends it."""
        return self.by_name.get(name.decode("utf-8", "replace"))


# The file


def users_path(directory: str) -> str:
    """Return where a directory's users are kept."""
    return DIR(directory).fixed(FileKind.USERS)


def load_users(directory: str) -> Users:
    """Read a directory's users; none if there is no file.

    Raises:  UsageError, something in it can't be; AccessError, others could read or write it;
             StorageError.
    """
    path = users_path(directory)
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            _check_private(path, status)
            text = file.read().decode()
    except FileNotFoundError:
        return Users()
    except PermissionError as error:
        raise AccessError(f"{path}: no permission to read the users") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path}: {error.strerror}") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    unknown = tables.keys() - {"users"}
    if unknown or not isinstance(tables.get("users", {}), dict):
        raise UsageError(f"{path}: there is nothing but tables [users.NAME] in it")
    by_name = {name: _user(path, name, row) for name, row in tables.get("users", {}).items()}
    return Users(by_name, _stamp(status))


def is_current(directory: str, users: Users) -> bool:
    """Tell whether the file is still the one that was read."""
    try:
        return _stamp(os.stat(users_path(directory))) == users.stamp
    except OSError:
        return users.stamp is None


def save_users(directory: str, users: dict[str, User], files: FileSystem) -> None:
    """Write a directory's users, atomically and durably.

    Raises:  StorageError.
    """
    path = users_path(directory)
    temporary = DIR(directory).temporary(FileKind.USERS)
    if files.exists(temporary):
        files.unlink(temporary)
    file = files.create(temporary)
    try:
        file.append("".join(_table(users[name]) for name in sorted(users)).encode())
        file.datasync()
    finally:
        file.close()
    files.rename(temporary, path)
    files.sync_dir(directory)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ino, status.st_size


def _check_private(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is no regular file")
    if status.st_uid != os.geteuid():
        raise AccessError(f"{path} belongs to another user: chown it to the service's")
    if status.st_mode & 0o077:
        raise AccessError(f"others may use {path}: chmod 600 {path}")


def _user(path: str, name: str, row: Any) -> User:
    where = f"{path}: user {name!r}"
    check_name(name)
    if not isinstance(row, dict):
        raise UsageError(f"{where} is no table")
    unknown = row.keys() - {"password", "read_only", "admin", "key_prefix"}
    if unknown:
        raise UsageError(f"{where}: no setting {min(unknown)!r}")
    password = row.get("password")
    if password is not None:
        if not isinstance(password, str):
            raise UsageError(f"{where}: password is a hash that `ferrisdb users` has made")
        check_hash(password)
    for flag in ("read_only", "admin"):
        if not isinstance(row.get(flag, False), bool):
            raise UsageError(f"{where}: {flag} is true or false")
    prefix = row.get("key_prefix", "")
    if not isinstance(prefix, str):
        raise UsageError(f"{where}: key_prefix is a text")
    return User(
        name, password, row.get("read_only", False), row.get("admin", False), prefix.encode()
    )


def check_name(name: str) -> None:
    """Raise UsageError if nobody can have this name."""
    if _NAME(name) is None:
        raise UsageError(f"{name!r} is no name of a user: it is {NAME_RULE}")


def _table(user: User) -> str:
    lines = [f'[users."{user.name}"]']
    if user.password is not None:
        lines.append(f'password = "{user.password}"')
    lines += [f"{flag} = true" for flag in ("read_only", "admin") if getattr(user, flag)]
    if user.key_prefix:
        # JSON's strings of ASCII are strings of TOML, but for what UTF-16 needs two of.
        text = json.dumps(user.key_prefix.decode(), ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"key_prefix = {text}")
    return "\n".join(lines) + "\n\n"
