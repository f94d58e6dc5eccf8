"""Import every module that declares commands, so that the registry is full."""

from __future__ import annotations

from ferrisdb.resp import transactions

MODULES = (transactions,)
