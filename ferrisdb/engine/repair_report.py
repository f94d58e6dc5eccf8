"""Say what a repair found, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class FileReport:
    """What becomes of one file: `fate` in a word or two, and the particulars."""

    name: str
    fate: str
    particulars: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RepairReport:
    """What a repair found, did, or with `is_dry_run` would do."""

    directory: str
    is_dry_run: bool
    is_needed: bool = False
    #: What the version was taken from.
    basis: str = ""
    files: list[FileReport] = field(default_factory=list)
    #: What is gone, in words; empty if nothing is known to be.
    lost: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    table_count: int = 0
    entry_count: int = 0
    last_seq: int = 0
