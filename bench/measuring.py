"""What the benchmarks share: keys, clocks around calls, and files of figures."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any

from ferrisdb.bench.machine import facts


def keys_of(count: int, seed: int) -> list[bytes]:
    """Return `count` distinct 16-byte keys in random order."""
    rng = random.Random(seed)
    found: dict[bytes, None] = {}
    while len(found) < count:
        found[b"%016x" % rng.getrandbits(64)] = None
    return list(found)


def each_call(call: Callable[[Any], Any], arguments: Iterable[Any], count: int) -> float:
    """Return seconds for one of `count` calls, or for one of the rows that the calls take."""
    begin = time.perf_counter()
    for argument in arguments:
        call(argument)
    return (time.perf_counter() - begin) / count


def each_row(rows: Iterable[Any]) -> float:
    """Return seconds a row of an iterable."""
    count = 0
    begin = time.perf_counter()
    for _row in rows:
        count += 1
    return (time.perf_counter() - begin) / count


def parts(rows: list[Any], size: int) -> Iterator[list[Any]]:
    """Cut a list into lists of `size`."""
    return (rows[at : at + size] for at in range(0, len(rows), size))


def versions() -> dict[str, str]:
    """Return the engines' versions."""
    found = {}
    for package in ("lmdb", "rocksdict", "plyvel", "numpy", "ferrisdb"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: str, folder: str, arguments: dict[str, Any], figures: dict[str, Any]) -> None:
    """Write a run's figures with the machine that they were measured on."""
    measured_on = facts(folder) | {"versions": versions()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"machine": measured_on, "arguments": arguments, **figures}, file, indent=1)
        file.write("\n")
