"""The command that measures: all of it is in `ferrisdb.bench`."""

from __future__ import annotations

from ferrisdb.bench.app import bench

__all__ = ["bench"]
