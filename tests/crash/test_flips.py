"""A flipped byte anywhere: verify names the file, and reading shows what is right or refuses.

Method: one database that has everything (tests/support/full_database.py), stopped cleanly. 5,000
times one byte of a table, a log, the MANIFEST or CURRENT is changed in a copy; the copy is checked
by verify, then a coordinator is started on it and every key is read by `get` and by scans in both
directions. The choice favours small files and structured parts. A child process does it, so that a
crash, a hang or memory that grows is seen; its address space is bounded at 24 MiB above what it
has at the start.

What is in process: the 5,000 run verify, recovery, the coordinator, the shared memory and the
handle as they are, but in one process, in turn, and without waiting for syncs. The 40 at the end
are real: a service of its own process, started by `ferrisdb.open`, and the command.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb.errors import CorruptionError
from ferrisdb.exit_codes import ExitCode
from ferrisdb.shm.names import SegmentNames
from tests.support import flipping
from tests.support.databases import TIMEOUT_S, configure, segments, stop_service
from tests.support.full_database import Contents, make
from tests.support.service import environment, run

SEED = 1
FLIP_COUNT = 5_000
REAL_COUNT = 40
CHILD_COUNT = 2
HANG_S = 600


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # In memory, if there is any: thousands of copies are made.
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="flips-", dir=base) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def contents(folder: Path) -> Contents:
    contents = make(folder / flipping.IMAGE, SEED)
    flipping.save(folder, contents)
    return contents


def test_the_image_has_everything(folder: Path, contents: Contents) -> None:
    found = flipping.describe(folder / flipping.IMAGE)
    assert len(contents) > 300
    assert found.levels >= 2 and found.range_deletes and found.expiring
    assert found.edits > 20
    assert sorted(found.logs) == [(False, True), (True, False), (True, True)]


def test_no_flip_goes_unnoticed_or_reads_wrong(folder: Path, contents: Contents) -> None:
    del contents
    print(f"seed {SEED}")
    words = [sys.executable, "-m", "tests.support.flipping", folder, SEED]
    children = [
        subprocess.Popen(
            [*map(str, words), str(first), str(FLIP_COUNT), str(CHILD_COUNT)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            text=True,
        )
        for first in range(CHILD_COUNT)
    ]
    outcomes: Counter[str] = Counter()
    for child in children:
        try:
            said, _ = child.communicate(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            child.kill()
            said, _ = child.communicate()
            raise AssertionError(f"hangs behind {said.splitlines()[-1:]}, seed {SEED}") from None
        lines = said.splitlines()
        assert child.returncode == 0, f"seed {SEED}: {child.returncode} behind {lines[-1:]}"
        assert lines[-1].startswith("end ")
        outcomes.update(line.split()[1] for line in lines[:-1])
    assert outcomes.total() == FLIP_COUNT
    # All three happen, or the test looks at nothing.
    assert min(outcomes[one] for one in ("read", "part", "refused")) > 20, outcomes


def test_a_real_service_refuses_or_reads_right(
    folder: Path, contents: Contents, tmp_path: Path
) -> None:
    image = folder / flipping.IMAGE
    flips = flipping.Flips(image, SEED + 1)
    refused = 0
    for number in range(REAL_COUNT):
        flip, region = flips[number]
        path = tmp_path / str(number)
        shutil.copytree(image, path)
        (path / flip.name).write_bytes(flipping.flipped((path / flip.name).read_bytes(), flip))
        if number % 4 == 0 and not region.dead and not region.end:
            done = run("verify", str(path))
            assert done.returncode == ExitCode.CORRUPT, (flip, done)
            assert flip.name in done.stdout.decode(), (flip, done)
        configure(path, memtable_bytes=1 << 18)
        try:
            db = ferrisdb.open(path, timeout=TIMEOUT_S, durability="os")
        except CorruptionError as error:
            refused += 1
            assert error.path, flip
            # The service that refused has left nothing.
            assert SegmentNames.read(str(path)) is None or not segments(path)
        else:
            with db:
                for key, value in contents.items():
                    try:
                        assert db.get(key) == value, (flip, key)
                    except CorruptionError:
                        break
                try:
                    assert dict(db.scan()) == contents, flip
                except CorruptionError:
                    pass
            stop_service(path, signal.SIGKILL)
            _sweep(path)
    assert 0 < refused < REAL_COUNT


def _sweep(path: Path) -> None:
    # Nobody starts on it again, which is what would remove them.
    for name in segments(path):
        os.unlink(f"/dev/shm/{name}")
