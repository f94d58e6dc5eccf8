"""Refuse to test a kernel that is out of date, and fail a test that leaves something behind."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from scripts.environment import stale
from tests.support.leaks import RUN_MARK, left_behind, take_stock


def pytest_configure(config: pytest.Config) -> None:
    """Stop the run if a compiled module is older than what it is made of."""
    del config
    os.environ[RUN_MARK] = uuid.uuid4().hex
    reasons = list(stale())
    if reasons:
        build = "python -c 'from setuptools import setup; setup()' build_ext --inplace"
        pytest.exit(f"{reasons[0]}: build the kernel by scripts/test or {build}", returncode=70)


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a test after which a process, a descriptor or a segment of ours is still there."""
    before = take_stock()
    yield
    found = left_behind(before, tmp_path_factory.getbasetemp())
    assert not found, "left behind: " + "; ".join(sorted(found))
