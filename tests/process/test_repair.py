"""`ferrisdb repair` and `ferrisdb dump` as a user runs them, on real damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrisdb.exit_codes import ExitCode
from tests.support.damaged import Sample, largest_live_table, make_sample
from tests.support.databases import opened
from tests.support.service import run, serving


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("cli") / "db", batches=90)


def ok(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_a_database_without_its_manifest_is_repaired_and_served(
    sample: Sample, tmp_path: Path
) -> None:
    path = sample.copy(tmp_path / "db")
    assert "nothing to repair" in ok("repair", str(path))
    for file in path.glob("MANIFEST-*"):
        file.unlink()
    (path / "CURRENT").unlink()
    refused = run("serve", str(path))
    assert refused.returncode == ExitCode.CORRUPT and b"ferrisdb repair" in refused.stderr
    assert "would be moved to quarantine" in ok("repair", str(path), "--dry-run")
    assert not (path / "CURRENT").exists()
    assert "lost: nothing that is known of" in ok("repair", str(path))
    with opened(path) as db:
        assert dict(db.scan()) == sample.rows
        db.put(b"new", b"row")
        db.compact()
        assert dict(db.scan()) == {**sample.rows, b"new": b"row"}
    assert "nothing to repair" in ok("repair", str(path))


def test_a_checkpoint_without_its_manifest_is_repaired(sample: Sample, tmp_path: Path) -> None:
    # Its tables bear the id of the database that it was made of, and no other file is left.
    path = sample.copy(tmp_path / "db")
    with opened(path) as db:
        db.checkpoint(tmp_path / "copy")
    for file in [*(tmp_path / "copy").glob("MANIFEST-*"), tmp_path / "copy" / "CURRENT"]:
        file.unlink()
    assert "lost: nothing that is known of" in ok("repair", str(tmp_path / "copy"))
    with opened(tmp_path / "copy") as db:
        assert dict(db.scan()) == sample.rows


def test_a_damaged_table_is_repaired_and_served(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "db")
    table = largest_live_table(path)
    content = bytearray(table.read_bytes())
    content[9000] ^= 1
    table.write_bytes(content)
    report = ok("repair", str(path))
    assert f"{table.name}: bytes " in report and "older values" in report
    with opened(path) as db:
        shown = dict(db.scan())
    assert all(value in sample.ever[key] for key, value in shown.items())
    same = sum(shown.get(key) == value for key, value in sample.rows.items())
    assert same > 0.8 * len(sample.rows)
    assert (path / "quarantine" / table.name).read_bytes() == content


def test_repair_is_refused_while_a_service_runs(tmp_path: Path) -> None:
    with serving(tmp_path / "db", "--memtable-bytes", "1MiB"):
        done = run("repair", str(tmp_path / "db"))
        assert done.returncode == ExitCode.ALREADY_RUNNING
        assert b"SIGTERM" in done.stderr


def test_dump_prints_beside_a_running_service(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with serving(path, "--memtable-bytes", "1MiB"):
        ok("put", str(path), "fruit", "rose\nhip")
        assert "names MANIFEST-" in ok("dump", str(path))
        log = min(path.glob("*.wal")).name
        assert r"put [00] fruit = rose\nhip" in ok("dump", str(path), log)
        assert "hip" not in ok("dump", str(path), log, "--keys-only")
        assert "1 put" not in ok("dump", str(path), log, "--limit", "0")
        rows = [json.loads(line) for line in ok("dump", str(path), log, "--json").splitlines()]
        assert {"seq": 1, "kind": "put", "key": "[00] fruit"}.items() <= rows[4].items()
        assert run("dump", str(path), "LOCK").returncode == ExitCode.USAGE
