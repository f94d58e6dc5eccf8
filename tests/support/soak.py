"""Run the long form of the process tests: `scripts/soak --help`.

Prints its seed first; FERRISDB_SEED or --seed repeats it (the choices, not the timing). Folders of
failed runs stay.
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

from tests.support.bulk import load_and_read
from tests.support.killing import Siege, besiege
from tests.support.real_input import import_and_rewrite

KILLS_PER_DIRECTORY = 25
PARTS = ("kills", "input", "load")


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


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many times to kill")
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
        "kills": lambda place: soak_kills(place, seed, options.kills),
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
