"""Goal: every error ends a process with a documented code. Method: walk errors and codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ferrisdb import errors, exit_codes
from ferrisdb.exit_codes import ExitCode


def test_every_error_class_is_listed_or_inherits_a_code() -> None:
    for kind in errors.by_wire_code().values():
        code = exit_codes.for_error(kind.__new__(kind))
        assert code != ExitCode.OK
        if kind is not errors.Error:
            assert code != ExitCode.INTERNAL, f"{kind.__name__} has no exit code"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.KeyTooLargeError("k"), ExitCode.USAGE),
        (errors.BusyError("later"), ExitCode.TRY_AGAIN),
        (errors.DiskFullError("full"), ExitCode.NO_SPACE),
        (errors.AlreadyRunningError("other"), ExitCode.ALREADY_RUNNING),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError(), ExitCode.INTERNAL),
    ],
)
def test_nearest_class_decides(error: BaseException, code: ExitCode) -> None:
    assert exit_codes.for_error(error) is code


def test_codes_keep_clear_of_what_shells_mean() -> None:
    numbers = {int(code) for code in ExitCode}
    assert all(number in (130, 141) or number < 126 for number in numbers)
    assert 2 not in numbers


def test_document_lists_exactly_these_codes() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "processes.md").read_text()
    listed = re.findall(r"^\| (\d+) \| (\w+) \|", text, re.M)
    assert [(int(number), name) for number, name in listed] == [
        (int(code), code.name) for code in ExitCode
    ]
