"""Say in one line what a run was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return processor, cores, memory, kernel, Python, our version and the day; "" of nothing."""
    parts = []
    if machine.get("cpu"):
        parts.append(str(machine["cpu"]))
    if machine.get("cpus"):
        parts.append("1 core" if machine["cpus"] == 1 else f"{machine['cpus']} cores")
    if isinstance(machine.get("memory_bytes"), int):
        parts.append(f"{machine['memory_bytes'] / 2**30:.0f} GiB")
    if machine.get("kernel"):
        parts.append(f"Linux {machine['kernel']}")
    if machine.get("python"):
        parts.append(f"Python {machine['python']}")
    if machine.get("commit"):
        parts.append(f"FerrisDB {machine['commit']}")
    if machine.get("when"):
        parts.append(str(machine["when"])[:10])
    return " · ".join(parts)
