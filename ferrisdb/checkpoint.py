"""Make a checkpoint from an attached process: pin, build beside the target, rename.

The process that asks does the work itself, under a pin: the pinned version's tables keep their
names and its memtables their memory, whatever flushes and compactions do meanwhile. When a
coordinator's restart ends the pin, the work begins anew under the next one.

B1  A checkpoint is built in `TARGET.tmp-<16 hex digits>` beside the target and gets the target's
    name by a rename once it is complete and synced. A crash leaves that directory at most.
B2  Its builder holds the lock on its LOCK meanwhile. The next checkpoint to the same target
    removes those that nobody holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from ferrisdb.engine.checkpoint import PinnedVersion, build_checkpoint
from ferrisdb.errors import (
    Error,
    SnapshotTooOldError,
    StorageError,
    UnavailableError,
    UsageError,
    WrongTypeError,
)
from ferrisdb.format.filenames import DIR
from ferrisdb.seams import FileSystem, RealClock, RealFileSystem, RealRng, storage_error
from ferrisdb.shm.locks import FILE_NAME as LOCK_NAME
from ferrisdb.shm.locks import DirectoryLock, check_file_system

if TYPE_CHECKING:
    from ferrisdb.attached import Attached

#: So often a restart of the service may end the pin; a pin that is revoked for its age is no
#: restart, and ends so every time.
ATTEMPT_COUNT_MAX = 5

_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}", re.ASCII)


def make_checkpoint(db: Attached, directory: str | os.PathLike[str], give_up_ns: int | None) -> int:
    """Do what `Database.checkpoint` says; returns the checkpoint's sequence.

    Shape: give_up_ns, on the monotonic clock; None: take as long as it takes.
    """
    target = _check_target(db.path, directory)
    fs = RealFileSystem()

    def on_chunk() -> None:
        if give_up_ns is not None and time.monotonic_ns() > give_up_ns:
            raise UnavailableError(
                f"the checkpoint was not done within the time-out: nothing is left of {target}"
            )

    _remove_leftovers(target)
    for attempt in count(1):
        with _temporary(fs, target) as temporary:
            try:
                seq = _build(db, fs, temporary, on_chunk)
            except SnapshotTooOldError:
                if attempt == ATTEMPT_COUNT_MAX:
                    raise
                # The service restarted: the next pin is of the next generation.
                on_chunk()
                db.check_service(time.monotonic_ns() + db.timeout_ns)
                continue
            try:
                # Replaces an empty directory, and nothing else.
                fs.rename(temporary, target)
            except StorageError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise _in_use(target) from error
                raise
            fs.sync_dir(os.path.dirname(target))
            return seq
    raise AssertionError("the attempts are counted above")


def _build(db: Attached, fs: FileSystem, path: str, on_chunk: Callable[[], None]) -> int:
    pin = db.ordered_pin()
    try:
        page, view = pin.view.page, pin.view
        tables = [
            (ref.level, table.properties)
            for ref, table in zip(page.tables, view.open_tables(), strict=True)
        ]
        pinned = PinnedVersion(DIR(db.path), pin.seq, view.memtables, tables)
        try:
            build_checkpoint(fs, pinned, path, clock=RealClock(), rng=RealRng(), on_chunk=on_chunk)
        except StorageError:
            # Asked first: a table that is gone is a pin that did not hold.
            pin.verify()
            raise
        pin.verify()
        return pin.seq
    finally:
        pin.release()


def _check_target(path: str, directory: str | os.PathLike[str]) -> str:
    """Return the target's full name.

    Raises: WrongTypeError, UsageError, UnsupportedFileSystemError, StorageError.
    """
    name = os.fspath(directory) if isinstance(directory, os.PathLike) else directory
    if not isinstance(name, str):
        raise WrongTypeError(f"a checkpoint's directory is a name, not {type(name).__name__}")
    if not name:
        raise UsageError("a checkpoint needs a directory's name")
    target = os.path.abspath(name)
    parent = os.path.dirname(target)
    if not os.path.isdir(parent):
        raise UsageError(f"{parent} is no directory: a checkpoint makes one directory, not two")
    inside = os.path.join(os.path.realpath(parent), os.path.basename(target))
    if os.path.commonpath([inside, os.path.realpath(path)]) == os.path.realpath(path):
        raise UsageError(f"{target} lies in the database itself: choose a directory outside")
    try:
        if os.path.lexists(target) and (
            os.path.islink(target) or not os.path.isdir(target) or os.listdir(target)
        ):
            raise _in_use(target)
    except OSError as error:
        if isinstance(error, Error):
            raise
        raise storage_error(error, target) from error
    check_file_system(parent)
    return target


def _in_use(target: str) -> UsageError:
    return UsageError(f"{target} exists and is no empty directory: choose another name")


@contextmanager
def _temporary(fs: FileSystem, target: str) -> Iterator[str]:
    """Make a directory beside the target, locked (B2); remove it unless it was renamed."""
    path = f"{target}.tmp-{RealRng().u64():016x}"
    fs.mkdir(path)
    try:
        with DirectoryLock(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_leftovers(target: str) -> None:
    parent, name = os.path.split(target)
    with contextlib.suppress(OSError):
        for found in os.listdir(parent):
            if not found.startswith(name) or not _TEMPORARY.fullmatch(found[len(name) :]):
                continue
            path = os.path.join(parent, found)
            # One without LOCK may be just about to get it.
            if not os.path.exists(os.path.join(path, LOCK_NAME)):
                continue
            lock = DirectoryLock(path)
            with contextlib.suppress(OSError):
                if lock.try_acquire():
                    shutil.rmtree(path, ignore_errors=True)
            lock.release()
