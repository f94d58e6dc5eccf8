"""Goal: an import says exactly how far it came. Method: a dictionary for a database, faults on cue.

Invariants I1 to I3 of ferrisdb/cli/importer.py.
"""

from __future__ import annotations

import io
import re

import pytest
from tqdm import tqdm

from ferrisdb import errors
from ferrisdb.cli import importer
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.cli.importer import Importer
from ferrisdb.cli.text import parse_tsv
from ferrisdb.exit_codes import ExitCode


class DictSink:
    """Keeps rows in a dictionary; fails at the batches it was told to."""

    def __init__(self, failures: dict[int, BaseException] | None = None) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.batches: list[int] = []
        self.flush_count = 0
        self._failures = failures or {}

    def put_many(self, pairs: list[tuple[bytes, bytes]], *, durability: str) -> None:
        assert durability == "os"
        if len(self.batches) in self._failures:
            raise self._failures[len(self.batches)]
        self.batches.append(len(pairs))
        self.rows.update(pairs)

    def flush(self) -> None:
        self.flush_count += 1


def _import(
    sink: DictSink, content: bytes, *, batch: int = 2, skip_bad: bool = False, from_line: int = 1
) -> Importer:
    with tqdm(disable=True) as bar:
        task = Importer(sink, "FILE", "os", batch, skip_bad, bar)
        task.run(io.BytesIO(content), parse_tsv, from_line)
    return task


FIVE = b"a\t1\nb\t2\nc\t3\nd\t4\ne\t5\n"
BAD_FOURTH = b"a\t1\nb\t2\nc\t3\noops\ne\t5\n"


def test_rows_arrive_in_batches_and_are_synced_at_the_end() -> None:
    sink = DictSink()
    task = _import(sink, FIVE)
    assert sink.rows == {b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"4", b"e": b"5"}
    assert sink.batches == [2, 2, 1]
    assert sink.flush_count == 1
    assert task.summary() == "5 rows imported"


def test_later_line_wins() -> None:
    sink = DictSink()
    _import(sink, b"k\told\nk\tnew\n", batch=1)
    assert sink.rows == {b"k": b"new"}


def test_bad_line_stops_with_all_before_it_and_none_behind() -> None:
    sink = DictSink()
    with pytest.raises(CommandFailure) as caught:
        _import(sink, BAD_FOURTH)
    assert caught.value.code == ExitCode.BAD_INPUT
    assert "line 4 of FILE: no tab" in str(caught.value)
    assert "3 rows imported" in str(caught.value)
    assert "--from-line 4" in str(caught.value)
    assert set(sink.rows) == {b"a", b"b", b"c"}
    assert sink.flush_count == 1


def test_bad_line_is_reported_and_passed_over_when_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sink = DictSink()
    task = _import(sink, BAD_FOURTH, skip_bad=True)
    assert set(sink.rows) == {b"a", b"b", b"c", b"e"}
    assert task.summary() == "4 rows imported, 1 bad lines skipped"
    assert "line 4: no tab between key and value; skipped" in capsys.readouterr().err


def test_many_bad_lines_are_counted_and_not_all_shown(capsys: pytest.CaptureFixture[str]) -> None:
    task = _import(DictSink(), b"oops\n" * 1000, skip_bad=True)
    assert task.summary() == "0 rows imported, 1,000 bad lines skipped"
    assert len(capsys.readouterr().err.splitlines()) == importer.BAD_LINES_SHOWN_MAX + 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errors.BusyError("writes are stalled"), ExitCode.TRY_AGAIN),
        (errors.CommitUnknownError("outcome unknown"), ExitCode.UNKNOWN_OUTCOME),
        (errors.DiskFullError("no space"), ExitCode.NO_SPACE),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (OSError(5, "input/output error"), ExitCode.STORAGE),
    ],
)
def test_failed_batch_names_its_first_line(fault: BaseException, code: ExitCode) -> None:
    sink = DictSink({1: fault})
    with pytest.raises(CommandFailure) as caught:
        _import(sink, FIVE)
    assert caught.value.code == code
    assert "2 rows imported; go on with --from-line 3" in str(caught.value)
    assert set(sink.rows) == {b"a", b"b"}


@pytest.mark.parametrize("failing", range(3))
@pytest.mark.parametrize("content", [FIVE, b"a\t1\noops\nb\t2\nc\t3\noops\nd\t4\ne\t5\n"])
def test_going_on_from_the_named_line_leaves_nothing_out(failing: int, content: bytes) -> None:
    whole = DictSink()
    _import(whole, content, skip_bad=True)
    sink = DictSink({failing: errors.BusyError("later")})
    with pytest.raises(CommandFailure) as caught:
        _import(sink, content, skip_bad=True)
    match = re.search(r"--from-line (\d+)", str(caught.value))
    assert match is not None
    sink._failures.clear()
    _import(sink, content, skip_bad=True, from_line=int(match.group(1)))
    assert sink.rows == whole.rows


def test_large_rows_make_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "BATCH_BYTES_MAX", 100)
    sink = DictSink()
    _import(sink, b"".join(b"k%d\t%s\n" % (n, b"v" * 60) for n in range(3)), batch=1000)
    assert sink.batches == [1, 1, 1]
