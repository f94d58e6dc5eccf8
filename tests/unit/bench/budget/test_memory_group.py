"""A group's files under either version, in folders that look like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ferrisdb.bench.budget.figures import BudgetError
from ferrisdb.bench.budget.memory_group import MemoryGroup


def _name(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if each.is_dir())


def test_version_1_limits_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.limit_in_bytes").write_text("1")
    group = MemoryGroup("one", 1234, v1=tmp_path, v2=tmp_path / "none")
    assert _name(tmp_path) == [f"ferrisdb-one-{os.getpid()}"]
    assert (group.path / "memory.limit_in_bytes").read_text() == "1234"
    (group.path / "memory.usage_in_bytes").write_text("77\n")
    assert group.used_bytes() == 77
    group.join()
    assert (group.path / "cgroup.procs").read_text() == str(os.getpid())


def test_version_2_limits_memory_and_enables_it_first(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    group = MemoryGroup("two", 1234, v1=tmp_path / "none", v2=tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert (group.path / "memory.max").read_text() == "1234"


def test_where_it_can_not_be_made_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="No such file .* run as root"):
        MemoryGroup("none", 1234, v1=tmp_path / "none", v2=tmp_path / "none")
    assert _name(tmp_path) == []


def test_an_empty_group_is_removed_behind_its_processes(tmp_path: Path) -> None:
    (tmp_path / "memory.limit_in_bytes").write_text("1")
    with MemoryGroup("gone", 1234, v1=tmp_path, v2=tmp_path) as group:
        # The kernel's files go with the folder.
        for path in group.path.iterdir():
            path.unlink()
    assert _name(tmp_path) == []
