"""Import every module that declares commands, so that the registry is full."""

from __future__ import annotations

from ferrisdb.resp import (
    bits,
    clients,
    config,
    connection,
    counters,
    expiry,
    ferris,
    info,
    introspection,
    keys,
    lcs,
    scanning,
    server_commands,
    strings,
    transactions,
)

MODULES = (
    bits,
    clients,
    config,
    connection,
    counters,
    expiry,
    ferris,
    info,
    introspection,
    keys,
    lcs,
    scanning,
    server_commands,
    strings,
    transactions,
)
