"""Refuse to test a kernel that is out of date, and fail a test that leaves something behind."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from scripts.environment import stale
from tests.support import leaks
from tests.support.leaks import RUN_MARK, WORKER_MARK, left_behind, take_stock

SEGMENTS_BEFORE = pytest.StashKey[frozenset[str]]()
SEGMENTS_LEFT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Stop the run if a compiled module is older than what it is made of."""
    # A mark for each process of the run that runs tests: what another has started isn't ours.
    os.environ[RUN_MARK] = uuid.uuid4().hex
    config.stash[SEGMENTS_BEFORE] = leaks.segments()
    reasons = list(stale())
    if reasons:
        build = "python scripts/environment.py build"
        pytest.exit(f"{reasons[0]}: build the kernel by scripts/test or {build}", returncode=70)


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a test after which a process, a descriptor or a segment of ours is still there."""
    before = take_stock()
    yield
    found = left_behind(before, tmp_path_factory.getbasetemp())
    assert not found, "left behind: " + "; ".join(sorted(found))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run behind which a segment stays, whichever of its processes made it."""
    if WORKER_MARK in os.environ:
        return
    config = session.config
    folder = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # no other way
    left = leaks.segments_left_behind(config.stash[SEGMENTS_BEFORE], folder)
    config.stash[SEGMENTS_LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the segments that stay."""
    for name in config.stash.get(SEGMENTS_LEFT, []):
        terminalreporter.write_line(f"left behind by some test: segment {name}", red=True)
