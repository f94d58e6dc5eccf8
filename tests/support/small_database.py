"""Run a small database by hand: start, commit, rotate, stop, with lists for memtables."""

from __future__ import annotations

from pathlib import Path

from ferrisdb.engine.open import create_database, open_state
from ferrisdb.engine.recover import RecoveredLogs, recover_logs
from ferrisdb.engine.wal_files import WalOwner, activate, prepare_wal
from ferrisdb.format import wal
from ferrisdb.format.edit import VersionEdit
from ferrisdb.format.filenames import DIR
from ferrisdb.seams import FileSystem, RealFileSystem
from tests.support.fakes import ManualClock, SeededRng
from tests.support.replay import ListTarget
from tests.support.simfs import SimFileSystem
from tests.support.wal_build import Appender, put

WAL_BYTES = 8192


def start(
    fs: FileSystem,
    path: str,
    *,
    room_bytes: int = 1 << 30,
    seed: int = 0,
    wal_bytes: int = WAL_BYTES,
) -> RecoveredLogs[ListTarget]:
    clock, rng = ManualClock(), SeededRng(seed)
    create_database(fs, path, clock, rng)
    return recover_logs(
        fs,
        open_state(fs, path),
        make_memtable=lambda number: ListTarget(number, room_bytes),
        wal_bytes=wal_bytes,
        clock=clock,
        rng=rng,
    )


def stop(logs: RecoveredLogs[ListTarget]) -> None:
    logs.wal.file.close()
    logs.manifest.close()


def held(logs: RecoveredLogs[ListTarget]) -> list[tuple[int, bytes]]:
    return [record for _, memtable in logs.memtables for record in memtable.records]


def owner(logs: RecoveredLogs[ListTarget]) -> WalOwner:
    return WalOwner(logs.manifest.database_id, logs.generation)


def rotate_wal(
    fs: FileSystem,
    path: str,
    logs: RecoveredLogs[ListTarget],
    old: Appender,
    number: int,
    file_bytes: int = WAL_BYTES,
) -> Appender:
    # As a coordinator rotates: successor prepared ahead, predecessor synced, then opened.
    prepare_wal(
        fs,
        DIR(path),
        number=number,
        file_bytes=file_bytes,
        owner=owner(logs),
        base_seq=1,
        clock=ManualClock(),
        rng=SeededRng(number),
    )
    old.sync()
    opening = wal.Opening(old.next_seq, old.time_us, old.wal.number, old.offset)
    new = Appender(
        activate(fs, DIR(path), number=number, owner=owner(logs), opening=opening), old.next_seq
    )
    new.request_no = old.request_no
    old.wal.file.close()
    return new


def reopen(path: Path, fs: FileSystem | None = None) -> list[tuple[int, bytes]]:
    logs = start(fs or RealFileSystem(), str(path), seed=9)
    found = held(logs)
    stop(logs)
    return found


def history(fs: SimFileSystem, path: str) -> list[tuple[int, int, bytes]]:
    """Live through starts, commits, a rotation and a flush; return what was promised.

    Returns: (index of the call from which on the batch was promised, first_seq, operations).
    """
    promised: list[tuple[int, int, bytes]] = []

    def promise(appender: Appender, done: int) -> int:
        appender.sync()
        promised.extend((fs.call_count, seq, ops) for seq, ops, _ in appender.appended[done:])
        return len(appender.appended)

    logs = start(fs, path)
    one = Appender(logs.wal, 1)
    done = 0
    for i in range(4):
        one.batch(put(b"one%d" % i, b"v" * 40), raw=i % 2 == 0)
        done = promise(one, done)
    one.batch(put(b"one-os"))
    number = logs.next_file_number
    two = rotate_wal(fs, path, logs, one, number)
    promised.extend((fs.call_count, seq, ops) for seq, ops, _ in one.appended[done:])
    done = 0
    for i in range(3):
        two.batch(put(b"two%d" % i, b"v" * 40))
        done = promise(two, done)
    two.batch(put(b"two-os"))
    stop(logs)
    two.wal.file.close()
    again = start(fs, path, room_bytes=400, seed=3)
    # What the restarted service shows is durable, whatever its level was.
    promised.extend((fs.call_count, seq, ops) for seq, ops, _ in two.appended[done:])
    three = Appender(again.wal, again.last_seq + 1)
    done = 0
    for i in range(3):
        three.batch(put(b"three%d" % i))
        done = promise(three, done)
    logs.manifest.close()
    again.manifest.rotate(
        number=again.next_file_number,
        snapshot=VersionEdit(
            database_id=again.manifest.database_id,
            next_file_number=again.next_file_number + 1,
            last_seq=again.last_seq,
            log_number=again.memtables[0][0],
            generation=again.generation,
        ),
        clock=ManualClock(),
    )
    three.batch(put(b"last"))
    promise(three, done)
    stop(again)
    return promised
