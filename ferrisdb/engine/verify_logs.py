"""Check WAL files: each by itself, and that they follow each other."""

from __future__ import annotations

from dataclasses import dataclass

from ferrisdb.engine.report import Findings
from ferrisdb.engine.verify_manifest import Manifest
from ferrisdb.errors import CorruptionError
from ferrisdb.format import wal
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel.walscan import WalScan, find_record, scan
from ferrisdb.seams import FileSystem

FAULTS_MAX = 100
"""Damaged places of one file that are looked for; each costs a pass over the file."""


@dataclass(frozen=True, slots=True)
class Log:
    """A WAL file of the MANIFEST's generation; `opening` is None where it has no record."""

    number: int
    path: str
    is_damaged: bool
    valid_end: int
    next_seq: int
    opening: wal.Opening | None


def read_log(
    fs: FileSystem,
    path: str,
    number: int,
    manifest: Manifest,
    findings: Findings,
    *,
    judge_end: bool,
    is_frozen: bool,
) -> Log | None:
    """Check one file.

    Shape:   judge_end, whether nobody writes to it; is_frozen, whether a later file has records,
             so that nothing may be torn.
    Returns: None for a file that is no part of the log.
    Raises:  FormatTooNewError, StorageError.
    """
    buffer = fs.read_all(path)
    findings.read(len(buffer))
    try:
        header = wal.decode_file_header(
            buffer, path, file_number=number, database_id=manifest.database_id
        )
    except CorruptionError as error:
        findings.corruption(error)
        return Log(number, path, True, 0, 0, None)
    if manifest.version is not None and header.generation > manifest.generation:
        _check_copy(buffer, header, path, findings)
        return None
    if manifest.version is not None and header.generation < manifest.generation:
        findings.error(path, 88, f"generation {manifest.generation}", header.generation)
    found, is_damaged = _scan_on(buffer, header, path, findings)
    if found is None:
        return Log(number, path, True, 0, 0, None)
    findings.record_count += found.record_count
    opening: wal.Opening | None = None
    if not is_damaged:
        try:
            opening = wal.read_opening(buffer, found, path)
        except CorruptionError as error:
            findings.corruption(error)
            is_damaged = True
        if judge_end:
            _check_end(buffer, header, found, path, is_frozen, findings)
    return Log(number, path, is_damaged, found.valid_end, found.next_seq, opening)


def _check_copy(buffer: bytes, header: wal.WalFile, path: str, findings: Findings) -> None:
    # engine/open.py, O3.
    try:
        found = wal.scan_file(buffer, header, path)
    except CorruptionError as error:
        findings.corruption(error)
        return
    if found.valid_end > max(header.synced_end, wal.FIRST_RECORD_OFFSET + wal.OPENING_RECORD_BYTES):
        findings.error(
            path, header.synced_end, f"no commits of generation {header.generation}, which the "
            "MANIFEST does not know", f"records up to byte {found.valid_end}",
        )  # fmt: skip
    else:
        findings.note(path, 88, "a generation that the MANIFEST knows", "an unfinished recovery's")


def _scan_on(
    buffer: bytes, header: wal.WalFile, path: str, findings: Findings
) -> tuple[WalScan | None, bool]:
    """Scan a file, and again behind each damaged place.

    Returns: the last scan, None if it found nothing; whether anything is damaged.
    """
    offset, base_seq, is_damaged = wal.FIRST_RECORD_OFFSET, header.base_seq, False
    for _ in range(FAULTS_MAX):
        try:
            found = scan(
                buffer,
                header.salt,
                path=path,
                base_seq=base_seq,
                first_offset=offset,
                synced_end=header.synced_end,
            )
            return found, is_damaged
        except CorruptionError as error:
            findings.corruption(error)
            is_damaged = True
            offset = find_record(buffer, header.salt, error.offset - error.offset % 8 + 8)
            if offset >= len(buffer):
                break
            first_seq = int.from_bytes(buffer[offset + 8 : offset + 16], "little")
            base_seq = max(first_seq, 1)
    return None, True


def _check_end(
    buffer: bytes,
    header: wal.WalFile,
    found: WalScan,
    path: str,
    is_frozen: bool,
    findings: Findings,
) -> None:
    end = found.valid_end
    if header.recycled:
        # Behind the end stands the file's former life; but a record that was to come here would
        # say so by its sequence number, and a closing record by everything else.
        next_seq = found.next_seq.to_bytes(8, "little")
        closing = wal.encode_closing(end, found.next_seq, 0, header.salt)
        here = buffer[end : end + len(closing)]
        is_torn = here[8:16] == next_seq or all(
            here[part] == closing[part] for part in (slice(4, 8), slice(16, 32), slice(40, None))
        )
        if is_torn and not is_frozen:
            findings.note(path, end, "the last record", "a torn one behind it")
        return
    rest_bytes = len(buffer) - end
    if buffer.count(0, end) == rest_bytes:
        return
    at = len(buffer) - len(buffer[end:].lstrip(b"\0"))
    if is_frozen:
        findings.error(path, at, "zeros behind the last record", "others")
    else:
        findings.note(path, end, "zeros behind the last record", f"a torn tail, byte {at} on")


def check_chain(directory: DIR, logs: list[Log], manifest: Manifest, findings: Findings) -> None:
    """Check that the logs, oldest first, go on where the tables end and follow each other (K4)."""
    if manifest.version is None:
        return
    oldest = next((log for log in logs if log.number == manifest.log_number), None)
    if manifest.log_number and oldest is None:
        path = directory.file(FileKind.WAL, manifest.log_number)
        findings.error(path, 0, "the oldest WAL file still needed", "no file")
    if oldest is not None and oldest.opening is not None:
        first_seq = oldest.opening.next_seq
        flushed_seq = max((table.max_seq for table in manifest.version.tables()), default=0)
        if not flushed_seq < first_seq <= manifest.last_seq + 1:
            findings.error(
                oldest.path,
                wal.FIRST_RECORD_OFFSET,
                f"a first sequence from {flushed_seq + 1} to {manifest.last_seq + 1}",
                first_seq,
            )
    before: Log | None = None
    for log in logs:
        if log.is_damaged:
            return
        if log.opening is None:
            continue
        _check_opening(directory, before, log, log.opening, manifest, findings)
        before = log


def _check_opening(
    directory: DIR,
    before: Log | None,
    log: Log,
    opening: wal.Opening,
    manifest: Manifest,
    findings: Findings,
) -> None:
    # engine/recover.py, R1 and R2.
    number, end = opening.predecessor_number, opening.predecessor_end
    if before is None:
        if number >= max(manifest.log_number, 1):
            path = directory.file(FileKind.WAL, number)
            findings.error(path, 0, f"records up to byte {end}", "none")
    elif before.number != number:
        findings.error(
            log.path,
            wal.FIRST_RECORD_OFFSET,
            f"a file that follows {before.number}",
            f"one that follows {number}",
        )
    elif (before.valid_end, before.next_seq) != (end, opening.next_seq):
        findings.error(
            before.path,
            before.valid_end,
            f"records up to byte {end} and sequence {opening.next_seq - 1}",
            f"up to byte {before.valid_end} and sequence {before.next_seq - 1}",
        )
