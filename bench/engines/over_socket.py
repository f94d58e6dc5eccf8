"""What stores have in common that are reached by a Unix socket and Redis's protocol."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Any

from ferrisdb.bench.engines.base import OS, Engine, Pairs
from ferrisdb.bench.engines.resp_client import RespClient


class OverSocket(Engine):
    """One connection, and what Redis's commands can do."""

    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        del settings
        self._folder = folder
        self._client = client = RespClient(self._path(folder))
        self._call = client.call
        self.get: Callable[[bytes], bytes | None] = client.get
        self.put: Callable[[bytes, bytes], Any] = client.put
        self._choose(durability)

    @abstractmethod
    def _path(self, folder: str) -> str:
        """Return the socket's path."""

    @abstractmethod
    def _choose(self, durability: str) -> None:
        """Have the connection's writes be as durable as that."""

    def delete(self, key: bytes) -> None:
        """Delete a row."""
        self._call(b"DEL", key)

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch, by MSET."""
        self._call(b"MSET", *chain.from_iterable(rows))

    def multi_get(self, keys: list[bytes]) -> Any:
        """Return the values, by MGET."""
        return self._call(b"MGET", *keys)

    def row_count(self) -> int:
        """Count the rows, by DBSIZE."""
        count = self._call(b"DBSIZE")
        assert isinstance(count, int)
        return count

    def replace(self, key: bytes, change: Callable[[bytes | None], bytes]) -> int:
        """Replace a value by WATCH, GET, MULTI, SET and EXEC, again when it conflicts."""
        attempts = 0
        while True:
            attempts += 1
            self._call(b"WATCH", key)
            changed = change(self.get(key))
            self._call(b"MULTI")
            self._call(b"SET", key, changed)
            if self._call(b"EXEC") is not None:
                return attempts

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
