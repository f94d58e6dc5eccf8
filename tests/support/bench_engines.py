"""Engines that the harness has to find out about: one that errs, and one that is not installed."""

from __future__ import annotations

import os
from typing import Any

from ferrisdb.bench.engines import OS, Sqlite


class Forgetful(Sqlite):
    """Acknowledges every write, and forgets one in ten."""

    name = "forgetful"
    title = "a store that forgets"

    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        super().__init__(folder, settings, durability=durability)
        self._writes = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row, or not."""
        self._writes += 1
        if self._writes % 10:
            super().put(key, value)


class Uninstalled(Sqlite):
    """Needs a package that nobody has."""

    name = "uninstalled"
    title = "a store that is not there"
    package = "ferrisdb_test_no_such_package"


class Deadly(Sqlite):
    """Ends the process that reads from it."""

    name = "deadly"
    title = "a store that crashes"

    def get(self, key: bytes) -> bytes | None:
        """End the process."""
        os._exit(3)
