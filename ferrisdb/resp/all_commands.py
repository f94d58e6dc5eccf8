"""Import every module that declares commands, so that the registry is full."""

from __future__ import annotations

from ferrisdb.resp import bits, counters, lcs, strings, transactions

MODULES = (bits, counters, lcs, strings, transactions)
