"""Measure the sockets by redis-benchmark beside redis-server, and what idle connections cost.

python -m bench.sockets [load|idle] [--readers N] [--keys N] [--rounds N] [--json FILE]

load    GET and SET by redis-benchmark over a Unix socket: 50 connections, 100-byte values,
        random ones of 500,000 keys that are all there, without pipelining and 16 deep;
        redis-server with appendonly yes and appendfsync everysec, ours with "os". The servers
        take turns, round by round. Requests a second, and CPU of all the server's processes
        and threads for a request; medians with the range.
idle    latency of four clients alone, and beside thousands of connections that say nothing,
        which take so much private memory of all the server's processes.
"""

from __future__ import annotations

import argparse
import csv
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ferrisdb.bench.measuring import write_json
from ferrisdb.bench.redis_server import Running, ferrisdb_running, program, redis_running

VALUE_BYTES = 100
CONNECTIONS = 50
DEPTHS = (1, 16)
COMMANDS = ("get", "set")
IDLE_CLIENTS = 4
LOAD_PART = 500

Figures = dict[str, dict[str, list[dict[str, float]]]]


def load_keys(server: Running, count: int) -> None:
    """Set every key that redis-benchmark will choose from."""
    value = b"x" * VALUE_BYTES
    with server.connect() as made:
        replies = made.makefile("rb")
        for begin in range(0, count, LOAD_PART):
            numbers = range(begin, min(begin + LOAD_PART, count))
            words = [b"MSET"]
            for number in numbers:
                words += [b"key:%012d" % number, value]
            made.sendall(request(*words))
            if replies.readline() != b"+OK\r\n":
                raise SystemExit(f"{server.name} does not take the keys")
        replies.close()


def request(*words: bytes) -> bytes:
    """Return a request's bytes."""
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), parts)


def run_benchmark(
    server: Running, command: str, depth: int, key_count: int, request_count: int
) -> dict[str, float]:
    """Run redis-benchmark once; returns its figures, and CPU for a request in µs."""
    before = server.cpu_s()
    begin = time.monotonic()
    done = subprocess.run(
        [program("redis-benchmark"), "-s", server.path, "-t", command, "-c", str(CONNECTIONS),
         "-d", str(VALUE_BYTES), "-r", str(key_count), "-n", str(request_count),
         "-P", str(depth), "--csv"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    elapsed = time.monotonic() - begin
    used = server.cpu_s() - before
    rows = list(csv.DictReader(line for line in done.stdout.splitlines() if line[:1] == '"'))
    if len(rows) != 1 or "rror" in done.stdout + done.stderr:
        raise SystemExit(f"redis-benchmark against {server.name}: {done.stdout}{done.stderr}")
    row = {name: float(value) for name, value in rows[0].items() if name != "test"}
    return {
        "requests_per_s": row["rps"],
        "cpu_us_per_request": used / request_count * 1e6,
        "cpu_cores": used / elapsed,
        "p50_ms": row["p50_latency_ms"],
        "p99_ms": row["p99_latency_ms"],
    }


def measure_load(servers: list[Running], options: argparse.Namespace) -> Figures:
    """Run every command and depth on each server, in turns."""
    figures: Figures = {}
    for server in servers:
        load_keys(server, options.keys)
    for turn in range(options.rounds + 1):
        for command in COMMANDS:
            for depth in DEPTHS:
                count = options.requests * (4 if depth > 1 else 1)
                for server in servers if turn % 2 else reversed(servers):
                    # The first round warms up.
                    part = count if turn else count // 10
                    found = run_benchmark(server, command, depth, options.keys, part)
                    if turn:
                        row = figures.setdefault(f"{command} -P {depth}", {})
                        row.setdefault(server.name, []).append(found)
    return figures


def report_load(figures: Figures, say: Callable[[str], None]) -> None:
    """Print medians and ranges, and ours as often as Redis's."""
    for what, engines in figures.items():
        for name in sorted(engines, reverse=True):
            rates = [row["requests_per_s"] for row in engines[name]]
            cpu = [row["cpu_us_per_request"] for row in engines[name]]
            line = (
                f"{what:10} {name:9} {statistics.median(rates):9.0f} /s "
                f"[{min(rates):.0f} .. {max(rates):.0f}]  CPU {statistics.median(cpu):6.2f} µs "
                f"[{min(cpu):.2f} .. {max(cpu):.2f}]  "
                f"p99 {statistics.median(row['p99_ms'] for row in engines[name]):.2f} ms"
            )
            if name == "ferrisdb" and "redis" in engines:
                other = statistics.median(row["requests_per_s"] for row in engines["redis"])
                other_cpu = statistics.median(r["cpu_us_per_request"] for r in engines["redis"])
                line += (
                    f"  {statistics.median(rates) / other:.2f} x the rate, "
                    f"{statistics.median(cpu) / other_cpu:.2f} x the CPU"
                )
            say(line)


# Idle connections


def latencies_s(server: Running, seconds: float) -> list[float]:
    """Return how long each call of some clients took, GET and SET by turns, sorted."""
    found: list[float] = []
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        ask = [request(b"SET", b"active:%d" % number, b"v"), request(b"GET", b"active:%d" % number)]
        mine = []
        with server.connect() as made:
            turn = 0
            while time.monotonic() < end:
                begin = time.perf_counter()
                made.sendall(ask[turn % 2])
                if made.recv(100) != (b"$1\r\nv\r\n" if turn % 2 else b"+OK\r\n"):
                    raise SystemExit(f"{server.name} answers wrongly")
                mine.append(time.perf_counter() - begin)
                turn += 1
        found.extend(mine)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(IDLE_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def quantiles_us(latencies: list[float]) -> dict[str, float]:
    """Return a few of a sorted list's quantiles, in µs."""
    return {
        f"p{at * 100:g}_us": latencies[int(len(latencies) * at)] * 1e6 for at in (0.5, 0.99, 0.999)
    }


def measure_idle(servers: list[Running], options: argparse.Namespace) -> dict[str, Any]:
    """See what idle connections cost each server."""
    figures: dict[str, Any] = {}
    for server in servers:
        alone = quantiles_us(latencies_s(server, options.seconds))
        before = server.private_bytes()
        held: list[socket.socket] = []
        try:
            while len(held) < options.connections:
                held.append(server.connect())
                if len(held) % 100 == 0:
                    held[-1].sendall(b"PING\r\n")
                    held[-1].recv(100)
            beside = quantiles_us(latencies_s(server, options.seconds))
            grown = server.private_bytes() - before
        finally:
            for made in held:
                made.close()
        figures[server.name] = {"alone": alone, "beside": beside, "bytes": grown}
    return figures


def report_idle(figures: dict[str, Any], count: int, say: Callable[[str], None]) -> None:
    """Print it."""
    for name, row in figures.items():
        say(
            f"{name:9} {count} idle connections: {row['bytes'] / 2**20:.1f} MiB; p50 "
            f"{row['alone']['p50_us']:.0f} µs alone, {row['beside']['p50_us']:.0f} beside them; "
            f"p99 {row['alone']['p99_us']:.0f} and {row['beside']['p99_us']:.0f}"
        )


def main() -> int:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sockets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="?", choices=("load", "idle"), default="load")
    parser.add_argument("--readers", type=int, help="reader workers (default: one a core)")
    parser.add_argument("--keys", type=int, default=500_000)
    parser.add_argument("--requests", type=int, default=250_000, help="4 times as many 16 deep")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=5000, help="idle ones")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each latency measurement")
    parser.add_argument("--only", choices=("ferrisdb", "redis"), help="one server alone")
    parser.add_argument("--folder", help="where to work: on a disk whose sync is worth measuring")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = tempfile.mkdtemp(prefix="ferrisdb-bench-", dir=options.folder)
    try:
        with ExitStack() as running:
            servers = []
            if options.only != "redis":
                place = f"{folder}/ferrisdb"
                servers.append(running.enter_context(ferrisdb_running(place, options.readers)))
            if options.only != "ferrisdb":
                servers.append(running.enter_context(redis_running(f"{folder}/redis")))
            if options.part == "load":
                figures: dict[str, Any] = measure_load(servers, options)
                report_load(figures, print)
            else:
                figures = measure_idle(servers, options)
                report_idle(figures, options.connections, print)
        if options.json:
            write_json(options.json, folder, vars(options), {"figures": figures})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
