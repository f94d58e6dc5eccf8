"""Check one table: every page, every invariant of its own, and what the MANIFEST says of it."""

from __future__ import annotations

from dataclasses import fields

from ferrisdb.engine.flush import table_meta
from ferrisdb.engine.report import Findings
from ferrisdb.errors import CorruptionError, FormatTooNewError, StorageError
from ferrisdb.format.edit import TableMeta
from ferrisdb.kernel.properties import TableProperties
from ferrisdb.kernel.table import Table
from ferrisdb.kernel.tablecheck import page_faults
from ferrisdb.seams import FileSystem


def check_table_file(
    fs: FileSystem,
    path: str,
    number: int,
    meta: TableMeta | None,
    findings: Findings,
) -> None:
    """Check the table at a path.

    Shape:  meta, None where it is not known. The database id in the table is that of who wrote it
            (docs/adr/0005), and is only compared within the table.
    Raises: FormatTooNewError.
    """
    if not fs.exists(path):
        findings.error(path, 0, "a table that the MANIFEST names", "no file")
        return
    try:
        findings.read(fs.size(path))
        table = Table(path, path=path, file_number=number)
        try:
            _check_content(table, findings)
            if meta is not None:
                _check_facts(table.properties, path, meta, findings)
            findings.entry_count += table.properties.entry_count
        finally:
            table.close()
        findings.table_count += 1
    except CorruptionError as error:
        # Footer, properties, header or range tombstones: the rest can't be found without them.
        findings.corruption(error)
    except FormatTooNewError:
        raise
    except StorageError as error:
        findings.unreadable(path, error)


def _check_content(table: Table, findings: Findings) -> None:
    try:
        table.verify()
    except CorruptionError as error:
        faults = page_faults(table)
        for fault in faults:
            findings.corruption(fault)
        if not faults:
            findings.corruption(error)


def _check_facts(
    properties: TableProperties, path: str, meta: TableMeta, findings: Findings
) -> None:
    # When a quarter will have expired only the builder knows: not before the first does.
    quarter_us = meta.quarter_expires_us
    if quarter_us and quarter_us < properties.expires_us_min:
        quarter_us = properties.expires_us_min
    own = table_meta(properties, level=meta.level, quarter_expires_us=quarter_us)
    for one in fields(TableMeta):
        said, found = getattr(meta, one.name), getattr(own, one.name)
        if said != found:
            findings.error(
                path, own.file_bytes, f"{one.name} {said!r} as the MANIFEST says", repr(found)
            )
