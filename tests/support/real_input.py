"""Import a package index, and have four processes read it while a fifth rewrites it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.processes import nonce, python, segments, stop_services, wait_until
from tests.support.service import environment, run
from tests.support.stanzas import real_text, write_rows

READER_COUNT = 4
TIMEOUT_S = 900


def import_and_rewrite(folder: Path, round_count: int, say: Callable[[str], None]) -> None:
    """Run it once, and leave no process.

    Raises: AssertionError, a rule of tests/support/rewriting.py is broken, or a process failed.
    """
    source, stanzas = real_text()
    say(f"{len(stanzas)} rows, {sum(map(len, stanzas.values())) >> 20} MiB from {source}")
    directory = folder / "db"
    write_rows(folder / "rows.jsonl", stanzas)
    done = run("import", str(directory), str(folder / "rows.jsonl"), "--format", "jsonl")
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    say((done.stdout + done.stderr).decode().strip().splitlines()[-1])
    known = nonce(directory)
    started: list[subprocess.Popen[bytes]] = []
    try:
        readers = [_start(started, "reader", directory, folder, 0) for _ in range(READER_COUNT)]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"ready\n", reader.communicate()[1].decode()
        writer = _start(started, "writer", directory, folder, round_count)
        _finish(writer)
        for reader in readers:
            report = json.loads(_finish(reader))
            say(f"reader: {report}")
            assert report["last"] == round_count
            assert report["scans"] >= 6, "it hardly read while the writer wrote"
    finally:
        for process in started:
            process.kill()
            process.communicate()
        stop_services(directory)
    wait_until(lambda: not segments(known), "nothing is left in shared memory")


def _start(
    started: list[subprocess.Popen[bytes]], role: str, *arguments: object
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        python("tests.support.rewriting", role, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    started.append(process)
    return process


def _finish(process: subprocess.Popen[bytes]) -> bytes:
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors.decode()[-3000:]
    return output
