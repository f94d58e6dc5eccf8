"""redis-benchmark's GET and SET beside redis-server, by the parts of `bench.sockets`."""

from __future__ import annotations

import argparse
import os
import shutil
from contextlib import ExitStack

from ferrisdb.bench.budget.figures import BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.redis_server import ferrisdb_running, redis_running
from ferrisdb.bench.sockets import COMMANDS, DEPTHS, measure_load

PARTS = [f"{command} -P {depth}" for command in COMMANDS for depth in DEPTHS]


def redis_benchmark(run: Run) -> list[Figure]:
    """Requests a second, and CPU of the server for each.

    Raises: BudgetError, the programs are not here.
    """
    if not shutil.which("redis-benchmark"):
        raise BudgetError("no redis-benchmark here: install Debian's redis-tools")
    if not (shutil.which("redis-server") or shutil.which("redis-check-rdb")):
        raise BudgetError("no redis-server here: install Debian's redis-server")
    settings = run.settings
    place = run.place("sockets")
    sizes = argparse.Namespace(
        keys=settings.socket_keys, rounds=settings.rounds, requests=settings.requests
    )
    with ExitStack() as stack:
        ours = ferrisdb_running(os.path.join(place, "ferrisdb"), settings.reader_count)
        servers = [stack.enter_context(ours)]
        servers.append(stack.enter_context(redis_running(os.path.join(place, "redis"))))
        found = measure_load(servers, sizes)
    rates = [_figure(found[part], part, "requests_per_s", "/s") for part in PARTS]
    cpu = [_figure(found[part], f"{part}, CPU", "cpu_us_per_request", "µs") for part in PARTS]
    return rates + cpu


def _figure(servers: dict[str, list[dict[str, float]]], name: str, key: str, unit: str) -> Figure:
    rounds = {server: [row[key] for row in servers[server]] for server in ("ferrisdb", "redis")}
    return Figure(name, unit, rounds, more_is_better=unit == "/s")
