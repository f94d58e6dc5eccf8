"""A session that is attached to the service's memory. It never starts a service."""

from __future__ import annotations

import contextlib

import ferrisdb
from ferrisdb.bench.engines.base import Pairs
from ferrisdb.bench.load.session import NO_CONNECTION, RefusedError, Session
from ferrisdb.errors import ClosedError, Error, NotADatabaseError, ProtocolError
from ferrisdb.exit_codes import ExitCode


class AttachedSession(Session):
    """A handle; it outlives the service's restarts by itself."""

    _db: ferrisdb.Database | None = None

    @property
    def engine(self) -> str:
        """What answers."""
        return "ferrisdb"

    def failed(self, error: Exception) -> str:
        """Return the error's class; a handle that can't go on is closed."""
        if not self.is_open:
            return NO_CONNECTION
        if isinstance(error, ClosedError | ProtocolError) or not isinstance(error, Error):
            self.close()
        return type(error).__name__

    def delete_many(self, keys: list[bytes]) -> None:
        """Delete keys, there or not."""
        assert self._db is not None
        with self._db.write_batch() as batch:
            for key in keys:
                batch.delete(key)

    def _connect(self) -> None:
        assert self._target.directory is not None
        try:
            self._db = db = ferrisdb.open(
                self._target.directory,
                start=False,
                timeout=self._timeout_s,
                durability=self._durability or "sync",
            )
        except NotADatabaseError as error:
            raise RefusedError(str(error), ExitCode.NOT_OURS) from error
        self.get, self.put = db.get, db.put
        self.put_many = self._put_many

    def _put_many(self, rows: Pairs) -> None:
        assert self._db is not None
        self._db.put_many(rows)

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(Error):
                db.close()
