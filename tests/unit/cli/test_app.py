"""Goal: a command ends with one line and a documented code. Method: run it in this process."""

from __future__ import annotations

import pytest

from ferrisdb import errors
from ferrisdb.cli import app, main
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode


def _only_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("ferrisdb: error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gte", "data", "k"], "no command 'gte'; did you mean get?"),
        (["frobnicate"], "there are serve, get, put"),
        (["get"], "Missing argument 'DIR'"),
        (["get", "/nonexistent/db", "k"], "does not exist"),
        (["scan", ".", "--limit", "-1"], "--limit"),
        (["scan", ".", "--prefix", "a", "--start", "b"], "--prefix is a range of its own"),
        (["get", ".", r"\q", "--escape"], "unknown escape"),
        (["put", ".", "k"], "Missing argument 'VALUE'"),
        (["delete", "."], "Missing argument 'KEY...'"),
        (["serve", ".", "--log-level", "loud"], "--log-level"),
        (["serve", ".", "--memtable-bytes", "12"], "memtable_bytes is 12"),
        (["import", ".", "f", "--batch", "0"], "--batch"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    assert message in _only_line(capsys)


def test_missing_input_file_has_its_own_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["import", ".", "/nonexistent/rows.tsv"]) == ExitCode.NO_INPUT
    assert "/nonexistent/rows.tsv: No such file" in _only_line(capsys)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.AlreadyRunningError("pid 7 runs it"), ExitCode.ALREADY_RUNNING, "pid 7 runs it"),
        (errors.BusyError(""), ExitCode.TRY_AGAIN, "BusyError"),
        (errors.CorruptionError("f", 3, "a", "b\nc"), ExitCode.CORRUPT, "f: at byte 3"),
        (CommandFailure("gone", ExitCode.NO_INPUT), ExitCode.NO_INPUT, "gone"),
        (ZeroDivisionError("by 0"), ExitCode.INTERNAL, "internal fault, ZeroDivisionError: by 0"),
    ],
)
def test_whatever_is_raised_becomes_one_line_and_a_code(
    error: Exception,
    code: ExitCode,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**settings: object) -> int:
        raise error

    monkeypatch.setattr(app.group, "main", fail)
    assert main([]) == code
    assert message in _only_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "lod"], "no command 'lod'"),
        (["bench", "--fast"], "No such option"),
    ],
)
def test_wrong_usage_of_the_harness_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    assert message in _only_line(capsys)


def test_interrupt_has_the_shell_s_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**settings: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(app.group, "main", interrupt)
    assert main([]) == ExitCode.INTERRUPTED


def test_no_arguments_show_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("command", [name for name in app.COMMANDS if name != "bench"])
def test_every_command_has_help_that_names_the_directory_first(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == ExitCode.OK
    assert f"Usage: ferrisdb {command} [OPTIONS] DIR" in capsys.readouterr().out
