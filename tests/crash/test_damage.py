"""Damage anywhere in a log of several files: refused, or a torn tail of the newest, never less.

Method: two WAL files; the newest ends in a group that was not synced. One bit of each byte is
flipped, and each length is cut, in either file; then the directory is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrisdb.errors import CorruptionError
from ferrisdb.seams import RealFileSystem
from tests.support.simfs import SimFileSystem
from tests.support.small_database import reopen, rotate_wal, start, stop
from tests.support.wal_build import Appender, put

Records = list[tuple[int, bytes]]


class Log:
    """The files of a directory, what they hold, and which part may be torn away."""

    def __init__(self, path: Path) -> None:
        fs = RealFileSystem()
        logs = start(fs, str(path), wal_bytes=1024)
        old = Appender(logs.wal, 1)
        for i in range(3):
            old.batch(put(b"old%d" % i))
        new = rotate_wal(fs, str(path), logs, old, logs.next_file_number, 1024)
        for i in range(3):
            new.batch(put(b"new%d" % i))
            new.sync()
        self.torn_from = new.offset
        for i in range(2):
            new.batch(put(b"torn%d" % i))
        stop(logs)
        new.wal.file.close()
        self.old_name, self.new_name = (f"{a.wal.number:06d}.wal" for a in (old, new))
        self.old_end, self.new_end = old.offset, new.offset
        self.records = [(seq, ops) for seq, ops, _ in old.appended + new.appended]
        self.safe_count = len(self.records) - 2
        self.files = {p.name: p.read_bytes() for p in path.iterdir()}

    def opened(self, path: Path, name: str, content: bytes) -> Records:
        """Return what is found with one file's content replaced."""
        (path / "db").mkdir(parents=True)
        for other, original in self.files.items():
            (path / "db" / other).write_bytes(content if other == name else original)
        return reopen(path / "db", SimFileSystem(str(path)))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "original")


def flips(content: bytes, end: int) -> Iterator[tuple[int, bytes]]:
    for at in range(end):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        yield at, bytes(flipped)


def test_damage_to_the_older_file_is_always_refused(log: Log, tmp_path: Path) -> None:
    for at, content in flips(log.files[log.old_name], log.old_end):
        with pytest.raises(CorruptionError):
            log.opened(tmp_path / f"{at}", log.old_name, content)
    for length in range(log.old_end):
        with pytest.raises(CorruptionError):
            log.opened(tmp_path / f"cut-{length}", log.old_name, log.files[log.old_name][:length])


def test_damage_to_the_newest_file_tears_off_unsynced_groups_only(log: Log, tmp_path: Path) -> None:
    for at, content in flips(log.files[log.new_name], log.new_end + 8):
        path = tmp_path / f"{at}"
        if at < log.torn_from:
            with pytest.raises(CorruptionError):
                log.opened(path, log.new_name, content)
        else:
            found = log.opened(path, log.new_name, content)
            assert found == log.records[: len(found)]
            assert len(found) >= log.safe_count


def test_cutting_the_newest_file_short_never_invents(log: Log, tmp_path: Path) -> None:
    whole = log.files[log.new_name]
    for length in range(log.new_end + 1):
        path = tmp_path / f"{length}"
        if length < 128:
            with pytest.raises(CorruptionError):
                log.opened(path, log.new_name, whole[:length])
        else:
            found = log.opened(path, log.new_name, whole[:length])
            assert found == log.records[: len(found)]
            assert len(found) >= (log.safe_count if length >= log.torn_from else 3)
