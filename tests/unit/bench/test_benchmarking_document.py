"""docs/benchmarking.md and README name what is there. Method: take their examples, and look."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from ferrisdb.bench.app import bench
from ferrisdb.bench.load.assertions import parse
from ferrisdb.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "benchmarking.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(
    block or inline for block, inline in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", DOCUMENT, re.S)
)
EXAMPLES = re.findall(r"ferrisdb bench ([^\n|#]*)", (CODE + README).replace("\\\n", " "))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 12


@pytest.mark.parametrize("example", sorted(set(EXAMPLES)))
def test_examples_name_commands_and_options_that_are_there(example: str) -> None:
    words = shlex.split(example)
    command: click.Command | None = bench
    if not words[0].startswith("--"):
        command = bench.get_command(click.Context(bench), words[0])
    assert command is not None
    named = [word.partition("=")[0] for word in words if word.startswith("--")]
    there = {option for parameter in command.params for option in parameter.opts}
    assert set(named) <= there
    asserted = [words[at + 1] for at, word in enumerate(words) if word == "--assert"]
    for text in asserted:
        assert parse(text).text == text


def test_codes_are_the_commands_own() -> None:
    table = DOCUMENT.partition("### Thresholds")[2]
    codes = {int(code) for row in re.findall(r"^\| (\d[\d, ]*) \|", table, re.M)
             for code in row.split(",")}  # fmt: skip
    assert codes == {
        ExitCode.OK, ExitCode.THRESHOLD_MISSED, ExitCode.UNAVAILABLE, ExitCode.USAGE,
        ExitCode.NO_PERMISSION, ExitCode.NOT_OURS, ExitCode.INTERRUPTED,
    }  # fmt: skip


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)", DOCUMENT):
        assert (ROOT / "docs" / link).exists(), link
