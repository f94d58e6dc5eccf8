"""Goal: the commands do what README says, on a real service. Method: run them, compare bytes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrisdb.exit_codes import ExitCode
from tests.support.service import command, environment, run, serving

SMALL = ("--memtable-bytes", "1MiB")


@pytest.fixture
def data(tmp_path: Path) -> Iterator[str]:
    """Serve a fresh directory and return its name."""
    with serving(tmp_path / "data", *SMALL):
        yield str(tmp_path / "data")


def _ok(*arguments: str, stdin: bytes = b"") -> bytes:
    done = run(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _fails(code: ExitCode, *arguments: str, stdin: bytes = b"") -> str:
    done = run(*arguments, stdin=stdin)
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert len(text.splitlines()) == 1 and text.startswith("ferrisdb: error: "), text
    return text


def test_value_comes_back_raw(data: str) -> None:
    assert _ok("put", data, "greeting", "hello, wörld") == b""
    assert _ok("get", data, "greeting") == "hello, wörld\n".encode()
    _ok("put", data, r"\x00\xff", r"a\nb", "--escape")
    assert _ok("get", data, r"\x00\xff", "--escape") == b"a\nb\n"
    _ok("put", data, "", "empty key")
    assert _ok("get", data, "") == b"empty key\n"


def test_absent_key_has_its_own_code(data: str) -> None:
    assert "no key 'nothing'" in _fails(ExitCode.ABSENT, "get", data, "nothing")


def test_delete_takes_many_keys_and_absent_ones(data: str) -> None:
    _ok("import", data, "-", stdin=b"a\t1\nb\t2\nc\t3\n")
    _ok("delete", data, "a", "c", "nothing")
    assert _ok("scan", data) == b"b\t2\n"


def test_scan_obeys_its_bounds(data: str) -> None:
    _ok("import", data, "-", stdin=b"a\t1\nb1\t2\nb2\t3\nc\t4\n")
    assert _ok("scan", data, "--start", "b1", "--end", "c") == b"b1\t2\nb2\t3\n"
    assert _ok("scan", data, "--prefix", "b", "--reverse") == b"b2\t3\nb1\t2\n"
    assert _ok("scan", data, "--limit", "1", "--keys-only") == b"a\n"
    assert _ok("scan", data, "--limit", "0") == b""
    assert _ok("scan", data, "--start", "c", "--format", "hex") == b"63\t34\n"


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
def test_what_scan_prints_import_reads(data: str, tmp_path: Path, form: str) -> None:
    rows = b"".join(b"k%03d\\t\\xff\tv\\n%d\\\\\n" % (n, n) for n in range(300))
    assert _ok("import", data, "-", "--batch", "7", stdin=rows) == b"300 rows imported\n"
    printed = _ok("scan", data, "--format", form)
    with serving(tmp_path / "copy", *SMALL):
        copy = str(tmp_path / "copy")
        assert _ok("import", copy, "-", "--format", form, stdin=printed) == b"300 rows imported\n"
        assert _ok("scan", copy, "--format", form) == printed


@pytest.mark.parametrize("name", ["rows.tsv", "rows.jsonl", "-"])
def test_what_export_writes_import_reads(data: str, tmp_path: Path, name: str) -> None:
    rows = b"".join(b"k%03d\\t\\xff\tv\\n%d\\\\\n" % (n, n) for n in range(300))
    _ok("import", data, "-", stdin=rows)
    file = tmp_path / "rows.tsv" if name == "-" else tmp_path / name
    if name == "-":
        file.write_bytes(_ok("export", data))
    else:
        file.write_bytes(b"what was there before\n")
        assert _ok("export", data, str(file)) == b"300 rows exported\n"
    with serving(tmp_path / "copy", *SMALL):
        copy = str(tmp_path / "copy")
        assert _ok("import", copy, str(file)) == b"300 rows imported\n"
        assert _ok("scan", copy) == _ok("scan", data)
    part = _ok("export", data, "--prefix", "k00", "--format", "jsonl")
    assert len(part.splitlines()) == 10 and part.startswith(b'{"key_b64": ')
    assert len(_ok("export", data, "--start", "k29", "--end", "k295").splitlines()) == 5


def test_export_leaves_no_part_of_a_file(data: str, tmp_path: Path) -> None:
    _fails(ExitCode.STORAGE, "export", data, str(tmp_path / "absent" / "rows.tsv"))
    target = str(tmp_path / "rows.tsv")
    _fails(ExitCode.USAGE, "export", data, target, "--prefix", "a", "--end", "b")
    assert not (tmp_path / "rows.tsv").exists()


def test_compact_gives_space_back(data: str) -> None:
    _ok("import", data, "-", stdin=b"".join(b"%06d\t%s\n" % (n, b"v" * 100) for n in range(5000)))
    _ok("delete", data, *(f"{n:06d}" for n in range(100)))
    assert _ok("compact", data, "--start", "0", "--end", "000050") == b""
    assert _ok("compact", data) == b""
    stats = json.loads(_ok("stats", data, "--json"))
    assert list(stats["levels"]) == ["6"]
    assert len(_ok("scan", data, "--keys-only").splitlines()) == 4900


def test_import_stops_at_a_bad_line_and_goes_on_from_it(data: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_bytes(b"a\t1\nb\t2\noops\nc\t3\n")
    text = _fails(ExitCode.BAD_INPUT, "import", data, str(file))
    assert "line 3" in text and "2 rows imported" in text and "--from-line 3" in text
    assert _ok("scan", data) == b"a\t1\nb\t2\n"
    file.write_bytes(b"a\t1\nb\t2\nmended\t!\nc\t3\n")
    assert _ok("import", data, str(file), "--from-line", "3") == b"2 rows imported\n"
    assert _ok("scan", data) == b"a\t1\nb\t2\nc\t3\nmended\t!\n"


def test_bad_lines_are_passed_over_when_asked(data: str) -> None:
    done = run("import", data, "-", "--skip-bad", stdin=b"a\t1\noops\nb\t2\n")
    assert done.returncode == 0
    assert done.stdout == b"2 rows imported, 1 bad lines skipped\n"
    assert b"line 2: no tab" in done.stderr


def test_limits_are_usage_errors(data: str) -> None:
    _fails(ExitCode.USAGE, "put", data, "k" * 65_536, "v")
    _fails(ExitCode.USAGE, "put", data, "k", "v", "--ttl", "0")
    assert _ok("scan", data) == b""


def test_stats_print_as_lines_and_as_json(data: str) -> None:
    assert _ok("stats", data)
    assert isinstance(json.loads(_ok("stats", data, "--json")), dict)


def test_reader_that_leaves_early_ends_a_scan_quietly(data: str) -> None:
    rows = b"".join(b"%06d\t%s\n" % (n, b"v" * 100) for n in range(5000))
    _ok("import", data, "-", stdin=rows)
    with subprocess.Popen(
        command("scan", data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as scan:
        assert scan.stdout is not None and scan.stderr is not None
        assert scan.stdout.readline() == rows[:108]
        scan.stdout.close()
        assert scan.stderr.read() == b""
        assert scan.wait(60) == ExitCode.BROKEN_PIPE


def test_second_service_on_a_directory_is_refused(data: str) -> None:
    _fails(ExitCode.ALREADY_RUNNING, "serve", data)
    _ok("put", data, "still", "there")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_service_ends_cleanly_by_signal_and_keeps_the_rows(
    tmp_path: Path, stop: signal.Signals
) -> None:
    directory = tmp_path / "data"
    with serving(directory, *SMALL) as service:
        _ok("put", str(directory), "k", "v")
        service.send_signal(stop)
        assert service.wait(30) == ExitCode.OK
    with serving(directory, *SMALL):
        assert _ok("get", str(directory), "k") == b"v\n"


def test_no_start_fails_where_nothing_runs(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with serving(directory, *SMALL):
        pass
    _fails(ExitCode.UNAVAILABLE, "get", str(directory), "k", "--no-start", "--timeout", "0.2")


def test_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    _fails(ExitCode.NOT_OURS, "serve", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
