"""What the workers of a service ask each other, and how each answers.

A request is (name, plain values...); it goes through the coordinator, which doesn't look into it.

| request | answer |
| --- | --- |
| `clients`, filter | lines of CLIENT LIST, each with its client's id |
| `kill`, filter | how many connections it means, whether the asker's too; others are closed |
| `figures` | the worker's figures, for INFO |
| `config`, changes | none: settings have changed (CONFIG SET) |
| `resetstat` | none: figures begin at 0 again |
| `reload` | none: the users are read again |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ferrisdb.resp.clients import ClientFilter, kill, lines
from ferrisdb.resp.config import apply_changes
from ferrisdb.resp.figures import figures, reset_figures

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service


def _clients(service: Service, wanted: ClientFilter) -> list[tuple[int, bytes]]:
    return lines(service, wanted)


def _kill(service: Service, wanted: ClientFilter) -> tuple[int, bool]:
    return kill(service, wanted)


def _config(service: Service, changes: dict[str, Any]) -> None:
    apply_changes(service, changes)


def _reload(service: Service) -> None:
    service.reload(tells=False)


ANSWERS: dict[str, Callable[..., Any]] = {
    "clients": _clients,
    "kill": _kill,
    "figures": figures,
    "config": _config,
    "resetstat": reset_figures,
    "reload": _reload,
}
