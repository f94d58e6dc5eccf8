"""Let clients in by name and password, and keep up with `users.toml`.

A password is verified in a thread, at most HASHING_THREADS at a time, each of which takes 16 MiB,
and by one that is remembered at once: under a hash with a key that only this process has, until the
file changes. So the connections of a pool cost one slow hash, and guesses cost one each.

The file is read again when it has changed: at the next AUTH, and when the service is told so.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final

from ferrisdb.errors import Error
from ferrisdb.resp.command import CommandError, Deferred
from ferrisdb.resp.passwords import verify_password
from ferrisdb.resp.threads import Post, Threads
from ferrisdb.resp.users import DEFAULT, User, Users, is_current, load_users

if TYPE_CHECKING:
    from ferrisdb.seams import Rng

HASHING_THREADS: Final = 2
HASHING_WAITING_MAX: Final = 256
_REMEMBERED_MAX: Final = 1024

WRONG_PASSWORD: Final = b"WRONGPASS invalid username-password pair or user is disabled."

_log = logging.getLogger("ferrisdb.resp")


class Authentication:
    """The users of one worker. Owner: its loop."""

    def __init__(self, directory: str, rng: Rng, post: Post) -> None:
        """Read the users.

        Raises:  UsageError, AccessError, StorageError: of `load_users`.
        """
        self._directory = directory
        self.users: Users = load_users(directory)
        self._threads = Threads(
            "verifying a password",
            post,
            thread_count=HASHING_THREADS,
            waiting_max=HASHING_WAITING_MAX,
        )
        self._key = rng.bytes(32)
        self._verified: set[bytes] = set()

    def refresh(self) -> bool:
        """Read the users again if the file has changed; tell whether that was done.

        What can't be read leaves things as they are, and is logged.
        """
        if is_current(self._directory, self.users):
            return False
        try:
            self.users = load_users(self._directory)
        except Error as error:
            _log.error("users not read again: %s", error)
            return False
        self._verified.clear()
        return True

    def verify(self, name: bytes, password: bytes) -> Deferred:
        """Verify a password; resolved with the User, or with None.

        Raises:  CommandError, too many are being verified.
        """
        user = self.users.get(name)
        held = None if user is None else user.password
        mark = self._mark(user, password)
        deferred = Deferred()
        if user is not None and mark in self._verified:
            deferred.resolve(user)
            return deferred

        def decide(is_right: object) -> None:
            # The file may have been read again meanwhile.
            if is_right is not True or user is None or self.users.get(name) != user:
                deferred.resolve(None)
                return
            if len(self._verified) >= _REMEMBERED_MAX:
                self._verified.clear()
            self._verified.add(mark)
            deferred.resolve(user)

        self._threads.run(lambda: verify_password(password, held)).then(decide)
        return deferred

    def require_password_of_default(self) -> None:
        """Raise what AUTH with a password alone says where nobody has one."""
        user = self.users.by_name.get(DEFAULT)
        if user is None or user.password is None:
            raise CommandError(
                b"ERR AUTH <password> called without any password configured for the default user."
                b" Are you sure your configuration is correct?"
            )

    def _mark(self, user: User | None, password: bytes) -> bytes:
        name = b"" if user is None else user.name.encode()
        return hashlib.blake2b(name + b"\0" + password, key=self._key, digest_size=32).digest()
