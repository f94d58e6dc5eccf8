"""Run the long form of the model and process tests: `scripts/soak --help`.

Prints its seed first; FERRISDB_SEED or --seed repeats it (the choices, not the timing). Folders of
failed runs stay.

parts:
  model      operations of every kind on the database and on a dictionary (--steps), with flushes,
             compactions, restarts and kills in between; a step is one operation whose answer is
             compared
  kills      SIGKILL of coordinator, compactor and writers (--kills); nothing acknowledged is lost
  compactor  SIGKILL of the compactor within its flushes and compactions (--kills); nothing is
             lost, and no file is left
  transactions  histories of eight processes (--transactions in each) are judged, and invariants
             and counts looked at, while processes of the service are killed (--kills in all)
  differential  random requests (--commands) to redis-server and to a service; replies must be the
             same bytes
  socket-fuzz  no RESP, or hardly, to the sockets (--rounds, of 24 connections each, by hundreds)
  socket-kills  SIGKILL of reader workers and coordinator under many clients (--kills); nothing
             acknowledged is lost
  input      import what is given and rewrite it (--rounds)
  load       load many entries and read them (--entries)
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import contenders, crowd, differential, socket_fuzz, socket_servers
from tests.support.bulk import load_and_read
from tests.support.compactor_siege import besiege_compactor
from tests.support.killing import Siege, besiege
from tests.support.model_machine import SELDOM, run_model
from tests.support.real_input import import_and_rewrite
from tests.support.socket_ledger import besiege as besiege_sockets

KILLS_PER_DIRECTORY = 25
PARTS = (
    "model", "kills", "compactor", "transactions", "differential", "socket-fuzz", "socket-kills",
    "input", "load",
)  # fmt: skip


def seed_of_run() -> int:
    """Return the seed of this run, and print it."""
    seed = int(os.environ.get("FERRISDB_SEED") or random.SystemRandom().getrandbits(32))
    say(f"seed {seed}")
    return seed


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def soak_kills(folder: Path, seed: int, kill_count: int) -> None:
    """Kill so many times, in one directory after the other."""
    rng = random.Random(seed)
    done = 0
    while done < kill_count:
        place = folder / f"kills-{done:04d}"
        say(f"{place}, after {done} of {kill_count} kills")
        siege = Siege(place, rng, own_service=rng.random() < 0.4, say=say)
        besiege(siege, min(kill_count - done, KILLS_PER_DIRECTORY))
        done += siege.kill_count
        shutil.rmtree(place)


def soak_model(folder: Path, seed: int, step_count: int) -> None:
    """Drive the database and a dictionary side by side for so many operations."""
    run = run_model(folder, step_count, seed, SELDOM, say=say)
    say(f"{run.steps} steps; " + ", ".join(f"{n} {name}" for name, n in sorted(run.counts.items())))


def soak_compactor(folder: Path, seed: int, kill_count: int) -> None:
    """Kill the compactor so many times in the middle of its work."""
    done = 0
    while done < kill_count:
        place = folder / f"compactor-{done:04d}"
        count = min(kill_count - done, KILLS_PER_DIRECTORY)
        moments = besiege_compactor(place, count, seed + done, say)
        done += count
        say(f"{done} of {kill_count} kills, the last {count}: {dict(moments)}")
        shutil.rmtree(place)


def soak_transactions(folder: Path, seed: int, count: int, kill_count: int) -> None:
    """Judge histories of so many transactions, and check invariants and counts behind as many."""
    each = count // crowd.PROCESSES
    for name, job in (("lists", contenders.lists), ("snapshot", contenders.snapshot_lists)):
        verdict = crowd.judge_lists(folder / name, job, each // 4, seed, kill_count)
        say(f"{name}: {verdict.committed} committed, {verdict.edges} dependencies, "
            f"{dict(verdict.anomalies) or 'no anomaly'}")  # fmt: skip
        assert set(verdict.anomalies) <= ({"G2"} if name == "snapshot" else set())
    verdict = crowd.judge_registers(folder / "registers", each // 4, seed, kill_count)
    say(f"registers: {verdict.committed} committed, {verdict.edges} dependencies")
    assert not verdict.anomalies, verdict.anomalies
    calls, unexplained = crowd.unexplained_calls(folder / "calls", each, seed, kill_count)
    say(f"calls: {calls}, {'all explained' if unexplained is None else unexplained}")
    assert unexplained is None
    for name, job in (("transfers", contenders.transfers), ("relinks", contenders.relinks)):
        killed = crowd.check_invariant(folder / name, job, each, seed, kills=kill_count)
        say(f"{name}: {each} in each of {crowd.PROCESSES} processes, killed {killed}")
    killed = crowd.check_invariant(
        folder / "clients", contenders.transfers, each, seed, kills=kill_count,
        client_kills=kill_count,
    )  # fmt: skip
    say(f"transfers with clients killed: {killed}")
    for name, job in (("adds", contenders.adds), ("increments", contenders.increments)):
        killed = crowd.check_sum(folder / name, job, 10_000, seed, kills=kill_count)
        say(f"{name}: 10,000 in each of {crowd.PROCESSES} processes, killed {killed}")


def soak_differential(folder: Path, seed: int, request_count: int) -> None:
    """Compare so many replies with those of redis-server."""
    with differential.pair_serving(folder) as pair:
        differential.compare(pair, seed, request_count, say)


def soak_socket_fuzz(folder: Path, seed: int, round_count: int) -> None:
    """Attack the sockets of one service for so many rounds."""
    with socket_servers.running(folder, **socket_fuzz.SETTINGS) as served:
        socket_fuzz.fuzz(served, seed, round_count, say)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=200, help="how often to kill, in each part")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the model test")
    parser.add_argument(
        "--transactions", type=int, default=100_000, help="in each workload of transactions"
    )
    parser.add_argument(
        "--commands", type=int, default=2_000_000, help="to send to redis-server and to ours"
    )
    parser.add_argument("--rounds", type=int, default=40, help="how often to rewrite the input")
    parser.add_argument("--entries", type=int, default=5_000_000, help="how many to load")
    parser.add_argument("--only", choices=PARTS, help="run one part alone")
    parser.add_argument("--seed", type=int, help="repeat the choices of an earlier run")
    parser.add_argument("--folder", type=Path, help="where to work (default: a new one in /tmp)")
    options = parser.parse_args()
    if options.seed is not None:
        os.environ["FERRISDB_SEED"] = str(options.seed)
    seed = seed_of_run()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ferrisdb-soak-"))
    parts: dict[str, Callable[[Path], None]] = {
        "model": lambda place: soak_model(place, seed, options.steps),
        "kills": lambda place: soak_kills(place, seed, options.kills),
        "compactor": lambda place: soak_compactor(place, seed, options.kills),
        "transactions": lambda place: soak_transactions(
            place, seed, options.transactions, options.kills // 8
        ),
        "differential": lambda place: soak_differential(place, seed, options.commands),
        "socket-fuzz": lambda place: soak_socket_fuzz(place, seed, 100 * options.rounds),
        "socket-kills": lambda place: besiege_sockets(place, options.kills, seed, say),
        "input": lambda place: import_and_rewrite(place, options.rounds, say),
        "load": lambda place: load_and_read(place, options.entries, seed, 64 << 20, say),
    }
    for name in [options.only] if options.only else PARTS:
        begin = time.monotonic()
        place = folder / name
        place.mkdir(parents=True)
        parts[name](place)
        shutil.rmtree(place)
        say(f"{name}: all well, {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
