"""Flip bytes of a database's files, one at a time, and say what comes of it.

Run as `python -m tests.support.flipping IMAGE SEED FIRST STOP STEP`: for flip FIRST, FIRST + STEP,
... below STOP a line `n outcome`, at the end `end PEAK_KIB`. The first fault ends it, with a line
`n fault: TEXT`. The flips are those of `Flips(IMAGE, SEED)`, in the parent as here.

The database is checked, opened and read by the same code that a service and a handle run
(tests/support/full_database.py), but in this one process, whose address space is bounded: what
would take more than a little beyond what it has at the start fails with MemoryError, a fault.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ferrisdb.database import Database
from ferrisdb.engine.report import Finding
from ferrisdb.engine.verify import verify_files
from ferrisdb.engine.version import Version
from ferrisdb.errors import CorruptionError
from ferrisdb.format import wal
from ferrisdb.format.filenames import DIR
from ferrisdb.format.manifest import manifest_records, read_manifest
from ferrisdb.kernel.properties import FOOTER_BYTES, decode_footer
from ferrisdb.seams import RealFileSystem
from tests.support.full_database import Contents, reading

ALLOCATION_BYTES_MAX = 24 << 20
IMAGE, CONTENTS = "db", "contents.json"


def save(path: Path, contents: Contents) -> None:
    """Write down what can be read of the image, for the children."""
    rows = {key.hex(): value.hex() for key, value in contents.items()}
    (path / CONTENTS).write_text(json.dumps(rows))


@dataclass(frozen=True, slots=True)
class Flip:
    """One byte of one file, and what it is to be XORed with."""

    name: str
    offset: int
    mask: int


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a file that is flipped as often as its weight says.

    `dead`: nothing stands there, by docs/formats.md; verify need not report it. `end`: what a
    power cut may tear and which nothing comes behind; verify reports it as a note at least.
    """

    name: str
    begin: int
    stop: int
    weight: float
    dead: bool = False
    end: bool = False


def regions(image: Path) -> list[Region]:
    """Divide the files of an image into what is flipped alike."""
    found: list[Region] = []
    for path in sorted(image.iterdir()):
        stored = path.read_bytes()
        name, nbytes = path.name, len(stored)
        if name == "CURRENT":
            found.append(Region(name, 0, nbytes, 40))
        elif name.startswith("MANIFEST"):
            found.append(Region(name, 0, 64, 20))
            found.append(Region(name, 64, nbytes, 100))
        elif name.endswith(".wal"):
            found += _of_log(name, stored)
        elif name.endswith(".sst"):
            footer = decode_footer(stored[-FOOTER_BYTES:], name, nbytes)
            found.append(Region(name, 0, footer.page_area_bytes, 16))
            found.append(Region(name, footer.page_area_bytes, nbytes - FOOTER_BYTES, 10))
            found.append(Region(name, nbytes - FOOTER_BYTES, nbytes, 6))
    return found


def _of_log(name: str, stored: bytes) -> list[Region]:
    header = wal.decode_file_header(stored, name)
    end = wal.scan_file(stored, header, name).valid_end
    closing = end - wal.CLOSING_RECORD_BYTES
    return [
        Region(name, 0, wal.FIRST_RECORD_OFFSET, 12),
        *([Region(name, wal.FIRST_RECORD_OFFSET, closing, 60)] if closing > 128 else []),
        *([Region(name, closing, end, 4, end=True)] if closing >= 128 else []),
        Region(name, end, len(stored), 8, dead=header.recycled, end=True),
    ]


@dataclass(frozen=True, slots=True)
class Description:
    """What an image has; `logs`: (recycled, with commits) of each WAL file."""

    levels: int
    range_deletes: int
    expiring: int
    edits: int
    logs: tuple[tuple[bool, bool], ...]


def describe(image: Path) -> Description:
    """Say what an image has."""
    manifest = read_manifest(RealFileSystem(), DIR(str(image)))
    version = Version()
    for edit in manifest.edits:
        version = version.apply(edit)
    logs = []
    for path in sorted(image.glob("*.wal")):
        header = wal.decode_file_header(path.read_bytes(), str(path))
        found = wal.scan_file(path.read_bytes(), header, str(path))
        logs.append((header.recycled, found.record_count > 2))
    return Description(
        levels=sum(bool(level) for level in version.levels),
        range_deletes=sum(table.range_delete_count for table in version.tables()),
        expiring=sum(table.expiring_count for table in version.tables()),
        edits=len(manifest.edits),
        logs=tuple(logs),
    )


class Flips:
    """The flips that a seed makes of an image, each known by its number."""

    def __init__(self, image: Path, seed: int) -> None:
        self._regions = regions(image)
        self._weights = [region.weight for region in self._regions]
        self._seed = seed

    def __getitem__(self, number: int) -> tuple[Flip, Region]:
        rng = random.Random(f"{self._seed}/{number}")
        (region,) = rng.choices(self._regions, self._weights)
        offset = rng.randrange(region.begin, region.stop)
        return Flip(region.name, offset, rng.randint(1, 255)), region


def flipped(stored: bytes, flip: Flip) -> bytes:
    """Return a file's bytes with the flip in them."""
    copy = bytearray(stored)
    copy[flip.offset] ^= flip.mask
    return bytes(copy)


def lay_out(image: Path, target: Path, flip: Flip) -> None:
    """Make a copy of the image with the flip; tables, which nobody changes, are linked."""
    target.mkdir()
    for path in image.iterdir():
        copy = target / path.name
        if path.name == flip.name:
            copy.write_bytes(flipped(path.read_bytes(), flip))
        elif path.suffix == ".sst":
            os.link(path, copy)
        else:
            shutil.copyfile(path, copy)


class Fault(Exception):
    """A flip did what it must not."""


def check_report(path: Path, flip: Flip, region: Region, ended: int) -> None:
    """Have verify look at the directory; raise Fault unless it names the file that was flipped.

    Shape: ended, offset of the MANIFEST's last edit.
    """
    report = verify_files(RealFileSystem(), str(path))
    if region.dead:
        if not report.is_clean:
            raise Fault(f"an error where nothing stands: {report.errors[0]}")
        return
    may_be_torn = region.end or (flip.name.startswith("MANIFEST") and flip.offset >= ended)
    wanted: tuple[Finding, ...] = report.findings if may_be_torn else report.errors
    if not any(Path(finding.path).name == flip.name for finding in wanted):
        raise Fault(f"not reported: {[str(finding) for finding in report.findings]}")


def check_reading(path: Path, contents: Contents) -> str:
    """Open and read everything; return what came of it, or raise Fault."""
    try:
        with reading(str(path)) as db:
            whole = _read_gets(db, contents)
            rows = sorted(contents.items())
            for reverse in (False, True):
                try:
                    found = list(db.scan(reverse=reverse))
                except CorruptionError as error:
                    _check_error(error)
                    whole = False
                    continue
                if found != (rows[::-1] if reverse else rows):
                    raise Fault(f"a scan shows {len(found)} rows, not these {len(rows)}")
    except CorruptionError as error:
        _check_error(error)
        return "refused"
    return "read" if whole else "part"


def _read_gets(db: Database, contents: Contents) -> bool:
    failed = 0
    for key, value in [*contents.items(), (b"absent", None), (b"key/000100/absent", None)]:
        try:
            found = db.get(key)
        except CorruptionError as error:
            _check_error(error)
            failed += 1
            if db.attached.view is None and failed == 3:
                # A table can't be opened at all: every get tries, and fails alike.
                break
            continue
        if found != value:
            raise Fault(f"{key!r} reads as {found!r}, not {value!r}")
    return not failed


def _check_error(error: CorruptionError) -> None:
    if not error.path or not isinstance(error.offset, int) or error.offset < 0:
        raise Fault(f"an error that does not name its place: {error!r}")


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ALLOCATION_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def last_edit_offset(image: Path) -> int:
    """Return where the MANIFEST's last edit stands."""
    (path,) = image.glob("MANIFEST-*")
    return list(manifest_records(path.read_bytes(), str(path)))[-1].offset


def main(folder: str, seed: str, first: str, stop: str, step: str) -> None:
    """Do a share of the flips."""
    image = Path(folder) / IMAGE
    stored = json.loads((Path(folder) / CONTENTS).read_text())
    contents = {bytes.fromhex(key): bytes.fromhex(value) for key, value in stored.items()}
    flips, ended = Flips(image, int(seed)), last_edit_offset(image)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for warm in range(3):
            shutil.copytree(image, f"{scratch}/warm-{warm}")
            assert check_reading(Path(f"{scratch}/warm-{warm}"), contents) == "read"
        _bound_memory()
        for number in range(int(first), int(stop), int(step)):
            flip, region = flips[number]
            path = Path(scratch) / str(number)
            lay_out(image, path, flip)
            try:
                check_report(path, flip, region, ended)
                outcome = check_reading(path, contents)
            except Exception as error:
                print(number, f"fault: {flip}: {type(error).__name__}: {error}", flush=True)
                raise
            print(number, outcome, flush=True)
            shutil.rmtree(path)
            if number // int(step) % 16 == 0:
                # Services and handles hold themselves in cycles, and with them their maps.
                gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("end", peak, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
