"""Say what a check of a database has found.

An *error* is a byte or an agreement between files that is not as it was written: restore it, or
run `ferrisdb repair`. A *note* is something that may well be: what a killed service leaves, which
the next start drops or removes.
"""

from __future__ import annotations

import os.path
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from ferrisdb.errors import CorruptionError, StorageError


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, or worth knowing."""

    severity: Severity
    path: str
    #: Of the first byte concerned, in bytes from the file's start.
    offset: int
    expected: str
    found: str

    def __str__(self) -> str:
        name = os.path.basename(self.path)
        return (
            f"{self.severity}: {name}, byte {self.offset}: expected {self.expected}, "
            f"found {self.found}"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, in the order in which the files were read, and how much was looked at."""

    directory: str
    findings: tuple[Finding, ...]
    file_count: int
    byte_count: int
    table_count: int
    #: Of the tables: versions of keys, deletes included.
    entry_count: int
    #: Of the WAL files: batches.
    record_count: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that mean damage."""
        return tuple(one for one in self.findings if one.severity is Severity.ERROR)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that don't."""
        return tuple(one for one in self.findings if one.severity is Severity.NOTE)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is damaged."""
        return not self.errors

    def as_dict(self) -> dict[str, object]:
        """Return the report as what JSON can hold."""
        return asdict(self) | {"is_clean": self.is_clean}

    def __str__(self) -> str:
        state = "clean" if self.is_clean else f"{len(self.errors)} errors"
        return (
            f"{self.directory}: {state}, {len(self.notes)} notes; {self.file_count} files, "
            f"{self.byte_count} bytes, {self.table_count} tables, {self.entry_count} entries, "
            f"{self.record_count} logged batches"
        )


@dataclass(slots=True)
class Findings:
    """A report in the making."""

    findings: list[Finding] = field(default_factory=list)
    file_count: int = 0
    byte_count: int = 0
    table_count: int = 0
    entry_count: int = 0
    record_count: int = 0

    def error(self, path: str, offset: int, expected: object, found: object) -> None:
        """Add an error."""
        self._add(Severity.ERROR, path, offset, expected, found)

    def note(self, path: str, offset: int, expected: object, found: object) -> None:
        """Add a note."""
        self._add(Severity.NOTE, path, offset, expected, found)

    def corruption(self, error: CorruptionError) -> None:
        """Add what a reader has raised."""
        self.error(error.path, error.offset, error.expected, error.found)

    def unreadable(self, path: str, error: StorageError) -> None:
        """Add a file that the system did not let us read."""
        self.error(path, 0, "a readable file", error.strerror or str(error))

    def add(self, other: Findings) -> None:
        """Take over what another one has found and counted."""
        self.findings += other.findings
        self.file_count += other.file_count
        self.byte_count += other.byte_count
        self.table_count += other.table_count
        self.entry_count += other.entry_count
        self.record_count += other.record_count

    def read(self, byte_count: int) -> None:
        """Count a file."""
        self.file_count += 1
        self.byte_count += byte_count

    def report(self, directory: str) -> Report:
        """Return what has been found."""
        return Report(
            directory,
            tuple(self.findings),
            self.file_count,
            self.byte_count,
            self.table_count,
            self.entry_count,
            self.record_count,
        )

    def _add(
        self, severity: Severity, path: str, offset: int, expected: object, found: object
    ) -> None:
        finding = Finding(severity, path, offset, str(expected), str(found))
        # Two checks may meet the same fault.
        if finding not in self.findings[-8:]:
            self.findings.append(finding)
