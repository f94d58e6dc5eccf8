"""Rewrite a database at random while others read it: space, write amplification, latencies.

    python -m bench.rewrite [--entries N] [--json FILE]

N operations in batches of 1,000 with "os" from one attached process: new keys in random order
(16 bytes, values of 100), and of all operations 20 % overwrite and 10 % delete a key chosen at
random. All the while another attached process reads random keys, in bursts with a pause between
(a loop without pauses would take one of two processors and measure how it is shared), and
compares each value with what may be seen at that moment. Then nothing is written until
compaction rests by itself; then `compact()` is called; then everything is scanned and compared.

Space is what the directory takes (blocks and bytes) without the WAL files, which are allocated
ahead, over the live entries' own keys and values. Write amplification is what flushes and
compactions wrote over the keys and values that were accepted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

import ferrisdb
from ferrisdb.bench import machine
from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.rewriting import (
    ENTRY_BYTES,
    Mix,
    Plan,
    Written,
    check_all,
    fill,
    keys_of,
    may_be_seen,
    state_of,
)
from ferrisdb.shm.locks import DirectoryLock

REST_S_MAX: Final = 3600.0
TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """One run."""

    mix: Mix
    #: Of the service; its defaults where nothing is said.
    options: dict[str, Any] = field(default_factory=dict)
    read_burst: int = 50
    read_pause_s: float = 0.002


def write(directory: str, scratch: str, mix: Mix) -> dict[str, Any]:
    """Write everything; returns what it took."""
    written = Written(Path(scratch), mix.operations)
    made = np.memmap(Path(scratch) / "made", dtype=np.uint64, mode="r+", shape=(1,))
    plan = Plan(mix, written)
    latencies = Histogram()
    accepted = 0
    with ferrisdb.open(directory, timeout=TIMEOUT_S) as db:
        begin = time.perf_counter()
        for numbers, keys, states in plan.batches():
            batch = db.write_batch(durability="os")
            accepted += fill(batch, keys, states)
            start_ns = time.perf_counter_ns()
            batch.commit()
            latencies.add(time.perf_counter_ns() - start_ns)
            # A key that comes twice has its last state here.
            written.acked[numbers] = states
            made[0] = plan.made
        seconds = time.perf_counter() - begin
    return {"seconds": seconds, "accepted_bytes": accepted, "batch": latencies}


def read(directory: str, scratch: str, settings: Settings) -> dict[str, Any]:
    """Read and compare until the file `done` is there."""
    folder = Path(scratch)
    written = Written(folder, settings.mix.operations)
    made = np.memmap(folder / "made", dtype=np.uint64, mode="r+", shape=(1,))
    rng = np.random.default_rng(settings.mix.seed + 1)
    latencies = Histogram()
    found = 0
    with ferrisdb.open(directory, timeout=TIMEOUT_S) as db:
        while not (folder / "done").exists():
            count = int(made[0])
            numbers = rng.integers(0, max(count, 1), settings.read_burst, dtype=np.uint64)
            keys = keys_of(numbers)
            for number, key in zip(numbers.tolist(), keys, strict=True):
                acked = int(written.acked[number])
                start_ns = time.perf_counter_ns()
                value = db.get(key)
                latencies.add(time.perf_counter_ns() - start_ns)
                state = state_of(key, value)
                sent = int(written.sent[number])
                if state is None or not may_be_seen(acked, sent, state):
                    raise SystemExit(f"{key!r}: {value!r}, where {acked} to {sent} may be seen")
                found += value is not None
            time.sleep(settings.read_pause_s)
    return {"get": latencies, "found": found}


def _played(role: str, directory: str, scratch: str, settings: Settings, answers: Any) -> None:
    """Play a role in a process of its own; None is the answer of one that failed."""
    answer: dict[str, Any] | None = None
    try:
        if role == "write":
            answer = write(directory, scratch, settings.mix)
        else:
            answer = read(directory, scratch, settings)
    finally:
        answers.put((role, answer))


def space(directory: str, live_bytes: int) -> dict[str, Any]:
    """Return what the files take, by kind, and its ratio to the live data."""
    row: dict[str, Any] = {}
    for kind in ("tables", "log", "other"):
        row |= {f"{kind}_bytes": 0, f"{kind}_block_bytes": 0}
    for entry in os.scandir(directory):
        kind = {"sst": "tables", "wal": "log"}.get(entry.name.rpartition(".")[2], "other")
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if entry.is_file(follow_symlinks=False):
            row[f"{kind}_bytes"] += status.st_size
            row[f"{kind}_block_bytes"] += status.st_blocks * 512
    row["ratio"] = (row["tables_bytes"] + row["other_bytes"]) / live_bytes
    row["block_ratio"] = (row["tables_block_bytes"] + row["other_block_bytes"]) / live_bytes
    return row


def wait_until(db: ferrisdb.Database, what: str) -> float:
    """Wait until the tree has no debt, or is at rest, and nothing else is left; return seconds.

    Shape: what, "paid" or "at rest".
    """
    begin = time.perf_counter()
    while True:
        db.get(b"")  # maps the newest version
        stats = db.stats()
        paid = len(stats["memtables"]) == 1 and stats["tree"]["debt_bytes"] == 0
        tables = sum(name.endswith(".sst") for name in os.listdir(db.path))
        rests = stats["at_rest"] and tables == stats["table_count"]
        waited = time.perf_counter() - begin
        if paid and (rests or what == "paid"):
            return waited
        if waited > REST_S_MAX:
            raise SystemExit(f"not {what} after {waited:.0f} s: {stats['tree']}")
        time.sleep(0.05)


def amplification(db: ferrisdb.Database, accepted_bytes: int) -> dict[str, Any]:
    """Return what was written since the service started, over what was accepted."""
    tree: dict[str, int] = db.stats()["tree"]
    wrote = tree["flushed_bytes"] + tree["compaction_written_bytes"]
    return tree | {"ratio": wrote / accepted_bytes}


def run(directory: str, scratch: str, settings: Settings) -> dict[str, Any]:
    """Do one run in an empty directory; returns the figures.

    Raises: SystemExit, where something was read that may not be.
    """
    os.makedirs(directory, exist_ok=True)
    lines = [f"{name} = {value!r}\n" for name, value in settings.options.items()]
    (Path(directory) / "ferrisdb.toml").write_text("".join(lines), encoding="utf-8")
    Written(Path(scratch), settings.mix.operations)
    (Path(scratch) / "made").write_bytes(bytes(8))
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    roles = {
        role: context.Process(target=_played, args=(role, directory, scratch, settings, answers))
        for role in ("write", "read")
    }
    result: dict[str, Any] = {}
    with ferrisdb.open(directory, timeout=TIMEOUT_S) as db:
        try:
            for process in roles.values():
                process.start()
            role, wrote = answers.get()
            if role != "write" or wrote is None:
                raise SystemExit(f"the process that had to {role} failed")
            written = Written(Path(scratch), settings.mix.operations)
            live_bytes = len(written.live()) * ENTRY_BYTES
            accepted = wrote["accepted_bytes"]
            result |= {"fill_s": wrote["seconds"], "accepted_bytes": accepted}
            result |= {"live_bytes": live_bytes, "batch": wrote["batch"].summary()}
            result["until_paid_s"] = result["fill_s"] + wait_until(db, "paid")
            result["paid"] = {"space": space(directory, live_bytes)}
            result["until_rest_s"] = result["until_paid_s"] + wait_until(db, "at rest")
            result["at_rest"] = {
                "space": space(directory, live_bytes),
                "written": amplification(db, accepted),
                "levels": db.stats()["levels"],
            }
            begin = time.perf_counter()
            db.compact(timeout=REST_S_MAX)
            result["compact_s"] = time.perf_counter() - begin
        finally:
            (Path(scratch) / "done").touch()
        role, reads = answers.get()
        if reads is None:
            raise SystemExit("the process that had to read failed")
        result["get"] = reads["get"].summary() | {"found": reads["found"]}
        for process in roles.values():
            process.join()
        wait_until(db, "at rest")
        result["compacted"] = {
            "space": space(directory, live_bytes),
            "written": amplification(db, accepted),
            "levels": db.stats()["levels"],
        }
        result["checked"] = check_all(db, written)
    return result


def wait_for_the_end(directory: str) -> None:
    """Wait until the service, whose last client has left, is gone."""
    give_up = time.monotonic() + TIMEOUT_S
    while DirectoryLock.is_held(directory):
        if time.monotonic() > give_up:
            raise SystemExit("the service did not leave")
        time.sleep(0.02)


def report(result: dict[str, Any]) -> None:
    """Print the figures that the project promises, with their bounds."""
    rest, compacted = result["at_rest"], result["compacted"]
    gets = result["get"]
    rows = [
        ("space at rest / live data", rest["space"]["block_ratio"], 1.30),
        ("space after compact() / live data", compacted["space"]["block_ratio"], 1.15),
        ("write amplification, at rest", rest["written"]["ratio"], 12.0),
        ("get p99.9, ms", gets["p99.9_us"] / 1000, 1.0),
        ("get p99.99, ms", gets["p99.99_us"] / 1000, 20.0),
    ]
    for what, value, bound in rows:
        verdict = "" if value <= bound else "  ABOVE IT"
        print(f"{what:36} {value:10.3f}   at most {bound:g}{verdict}")
    others = [
        ("fill, s", result["fill_s"]),
        ("fill until no debt, s", result["until_paid_s"]),
        ("fill until at rest, s", result["until_rest_s"]),
        ("compact(), s", result["compact_s"]),
        ("get p50, µs", gets["p50_us"]),
        ("get max, ms", gets["max_us"] / 1000),
        ("batch of writes p50, ms", result["batch"]["p50_us"] / 1000),
        ("batch of writes p99.99, ms", result["batch"]["p99.99_us"] / 1000),
        ("batch of writes max, ms", result["batch"]["max_us"] / 1000),
        ("live data, MB", result["live_bytes"] / 1e6),
    ]
    for what, value in others:
        print(f"{what:36} {value:10.3f}")
    print(f"gets: {gets['count']:,}; rows scanned and compared: {result['checked']['rows']:,}")


def main() -> int:
    """Run, print the figures, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--overwrites", type=float, default=0.2)
    parser.add_argument("--deletes", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--folder", help="where the database lies for the time of the run")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    options = {name: int(value) for name, _, value in (o.partition("=") for o in arguments.option)}
    mix = Mix(arguments.entries, arguments.overwrites, arguments.deletes, seed=arguments.seed)
    settings = Settings(mix, options)
    with tempfile.TemporaryDirectory(prefix="ferrisdb-bench-", dir=arguments.folder) as folder:
        facts = machine.facts(folder)
        os.mkdir(os.path.join(folder, "scratch"))
        result = run(os.path.join(folder, "db"), os.path.join(folder, "scratch"), settings)
        wait_for_the_end(os.path.join(folder, "db"))
    report(result)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"machine": facts, "settings": asdict(settings), **result}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
