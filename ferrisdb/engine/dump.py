"""Print what a file of a database says, line by line, field by field.

For people: to learn the formats with, and to look at damage. Every checksum is recomputed; where
one doesn't match the line says so and the dump goes on as far as the format allows. Only the one
file is read, and nothing is ever written.

A line is a `Line`: its place in the file, what stands there in words, and the same as fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ferrisdb.engine.walwalk import RecordPlace, WalWalk, walk_records
from ferrisdb.errors import CorruptionError, Error
from ferrisdb.format import wal
from ferrisdb.format.edit import TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind, FileName, parse_name
from ferrisdb.format.header import (
    HEADER_BYTES,
    MAGIC_CURRENT,
    MAGIC_MANIFEST,
    MAGIC_WAL,
    Header,
    decode_header,
)
from ferrisdb.format.manifest import records_past_damage
from ferrisdb.seams import FileSystem

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a dump; `depth`: how far it is set in."""

    offset: int
    text: str
    fields: Fields = field(default_factory=dict)
    depth: int = 0
    #: An entry, operation or edit: what a limit counts.
    is_item: bool = False


@dataclass(frozen=True, slots=True)
class DumpOptions:
    """How keys and values are printed, and whether values are."""

    keys_only: bool = False
    show: Callable[[bytes], str] = repr


def key_text(stored: bytes, options: DumpOptions) -> str:
    """Return a stored key: the key space's prefix in hexadecimal, and the key."""
    if not stored:
        return "(empty)"
    return f"[{stored[:1].hex()}] {options.show(stored[1:])}"


def fault_line(offset: int, error: Error) -> Line:
    """Return the line that says what is wrong at a place."""
    if isinstance(error, CorruptionError):
        text = f"DAMAGED: expected {error.expected}, found {error.found}"
        return Line(error.offset, text, {"damaged": text})
    return Line(offset, f"DAMAGED: {error}", {"damaged": str(error)})


def header_lines(buffer: bytes, magic: bytes, path: str) -> Iterator[Line]:
    """Yield the common header's fields."""
    try:
        header = decode_header(buffer, magic, path)
    except Error as error:
        yield fault_line(0, error)
        return
    yield header_line(header)


def header_line(header: Header) -> Line:
    """Return a header's fields, whose checksum has been found right."""
    fields: Fields = {
        "magic": header.magic.rstrip(b"\0").decode("ascii"),
        "version": f"{header.version:#06x}",
        "first_offset": header.first_offset,
        "created_us": header.created_us,
        "file_number": header.file_number,
        "database_id": header.database_id.hex(),
    }
    return Line(0, f"header {_named(fields)}, checksum right", fields)


def _named(fields: Fields) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def dump_file(fs: FileSystem, directory: DIR, name: str, options: DumpOptions) -> Iterator[Line]:
    """Yield a file's lines.

    Raises: ValueError, a name of nothing that can be dumped; StorageError.
    Cost:   a table is read block by block, a WAL file or MANIFEST as a whole.
    """
    from ferrisdb.engine.dump_table import dump_table

    path, found = directory.named(name), dumpable(name)
    match found.kind:
        case FileKind.WAL:
            return dump_wal(fs.read_all(path), path, options)
        case FileKind.TABLE:
            return dump_table(fs, path, options)
        case FileKind.MANIFEST:
            return dump_manifest(fs.read_all(path), path, options)
        case _:
            return header_lines(fs.read_all(path), MAGIC_CURRENT, path)


def dumpable(name: str) -> FileName:
    """Return what kind of file a name stands for.

    Raises: ValueError for one that holds no format of ours.
    """
    found = parse_name(name)
    kinds = (FileKind.WAL, FileKind.TABLE, FileKind.MANIFEST, FileKind.CURRENT)
    if found is None or found.kind not in kinds:
        raise ValueError(f"{name}: there are CURRENT, MANIFEST-NNNNNN, NNNNNN.wal and NNNNNN.sst")
    return found


def summaries(fs: FileSystem, directory: DIR) -> Iterator[tuple[str, str, int, str]]:
    """Yield name, kind, size in bytes and a summary of each file of a directory."""
    from ferrisdb.engine.dump_table import summarise_table

    for name in fs.list_dir(directory.path):
        found = parse_name(name)
        if found is None:
            continue
        path = directory.named(name)
        try:
            size = fs.size(path)
            summary = ""
            if found.kind is FileKind.TABLE:
                summary = summarise_table(fs, path)
            elif found.kind is FileKind.WAL:
                summary = _summarise_wal(_head(fs, path), path)
            elif found.kind is FileKind.MANIFEST:
                edits = list(records_past_damage(fs.read_all(path), path))
                summary = f"{len(edits)} edits"
            elif found.kind is FileKind.CURRENT:
                header = decode_header(_head(fs, path), MAGIC_CURRENT, path)
                summary = f"names MANIFEST-{header.file_number:06d}"
        except Error as error:
            summary = f"DAMAGED: {error}"
        yield name, found.kind.name.lower(), size, summary


def _head(fs: FileSystem, path: str) -> bytes:
    file = fs.open_read(path)
    try:
        return file.pread(wal.FIRST_RECORD_OFFSET, 0)
    finally:
        file.close()


def _summarise_wal(head: bytes, path: str) -> str:
    header = wal.decode_file_header(head, path)
    return f"generation {header.generation}, sequences from {header.base_seq} on"


# WAL files


def dump_wal(buffer: bytes, path: str, options: DumpOptions) -> Iterator[Line]:
    """Yield a WAL file's header, extension and records, those behind damage too."""
    yield from header_lines(buffer, MAGIC_WAL, path)
    try:
        file = wal.decode_file_header(buffer, path)
    except Error as error:
        yield fault_line(HEADER_BYTES, error)
        yield Line(128, "without the salt in the extension no record can be told from damage")
        return
    fields: Fields = {
        "salt": f"{file.salt:#018x}",
        "base_seq": file.base_seq,
        "generation": file.generation,
        "synced_end": file.synced_end,
    }
    yield Line(HEADER_BYTES, f"extension {_named(fields)}, checksum right", fields)
    walk = walk_records(buffer, file)
    for number, place in enumerate(walk.sound):
        yield from _record(buffer, place, options, is_opening=number == 0)
    yield from _behind(buffer, walk, options)


def _behind(buffer: bytes, walk: WalWalk, options: DumpOptions) -> Iterator[Line]:
    at = walk.sound_end
    for place in walk.behind:
        if place.offset > at:
            yield Line(at, f"{place.offset - at} bytes that are no whole record: DAMAGED or torn")
        yield from _record(buffer, place, options, is_opening=False)
        at = place.end
    rest = len(buffer) - at
    if rest:
        what = "other bytes" if buffer.count(0, at) != rest else "zeros"
        yield Line(at, f"end of the records; {rest} bytes of {what} behind it")


def _record(
    buffer: bytes, place: RecordPlace, options: DumpOptions, *, is_opening: bool
) -> Iterator[Line]:
    try:
        record = wal.record_in(buffer, place.offset)
    except (ValueError, struct.error) as error:
        yield Line(place.offset, f"DAMAGED: a record that can't be: {error}")
        return
    fields: Fields = {
        "bytes": record.total_bytes,
        "first_seq": record.first_seq,
        "count": record.count,
        "synced_to": record.synced_to,
        "time_us": record.time_us,
    }
    kind = "record"
    if is_opening and not record.count:
        kind = "opening record"
        fields["predecessor"] = record.request_no
        fields["predecessor_end"] = record.unanswered_no
    elif record.client_id != wal.NO_CLIENT:
        fields["client"] = record.client_id.hex()
        fields["request_no"] = record.request_no
        fields["unanswered_no"] = record.unanswered_no
    elif not record.count and record.synced_to == record.offset:
        kind = "closing record"
    if record.reply:
        fields["reply"] = options.show(record.reply)
    yield Line(place.offset, f"{kind} {_named(fields)}, checksum right", fields)
    for number, op in enumerate(record.operations):
        yield _operation(place.offset, record.first_seq + number, op, options)


def _operation(offset: int, seq: int, op: wal.Operation, options: DumpOptions) -> Line:
    name = op.kind.name.lower().replace("_", " ")
    fields: Fields = {"seq": seq, "kind": name}
    if op.kind is wal.OpKind.RANGE_DELETE:
        end = key_text(op.value, options) if op.value else "the end"
        fields |= {"start": key_text(op.key, options), "end": end}
        text = f"{seq} {name} from {fields['start']} up to {end}"
    else:
        fields["key"] = key_text(op.key, options)
        text = f"{seq} {name} {fields['key']}"
        if op.kind is wal.OpKind.PUT_EXPIRING:
            fields["expires_us"] = op.expires_us
            text += f" expires {op.expires_us}"
        if op.kind is not wal.OpKind.DELETE and not options.keys_only:
            fields["value"] = options.show(op.value)
            text += f" = {fields['value']}"
    return Line(offset, text, fields, depth=1, is_item=True)


# MANIFESTs


def dump_manifest(buffer: bytes, path: str, options: DumpOptions) -> Iterator[Line]:
    """Yield a MANIFEST's header and edits in words, those behind damage too."""
    yield from header_lines(buffer, MAGIC_MANIFEST, path)
    at = HEADER_BYTES
    for one in records_past_damage(buffer, path):
        if isinstance(one, CorruptionError):
            yield fault_line(one.offset, one)
            continue
        if one.offset > at:
            yield Line(at, f"{one.offset - at} bytes that are no whole edit: DAMAGED or torn")
        at = one.offset + one.total_bytes
        yield Line(
            one.offset,
            f"edit of {one.total_bytes} bytes, checksum right",
            {"bytes": one.total_bytes},
            is_item=True,
        )
        yield from _edit(one.offset, one.edit, options)
    if at < len(buffer):
        yield Line(at, f"{len(buffer) - at} bytes that are no whole edit: DAMAGED or torn")


def _edit(offset: int, edit: VersionEdit, options: DumpOptions) -> Iterator[Line]:
    if edit.database_id is not None:
        shown = edit.database_id.hex()
        yield Line(offset, f"database id {shown}", {"database_id": shown}, depth=1)
    for name, number, words in (
        ("next_file_number", edit.next_file_number, "the next file gets number"),
        ("last_seq", edit.last_seq, "the last sequence is"),
        ("log_number", edit.log_number, "WAL files are needed from number"),
        ("generation", edit.generation, "the generation is"),
    ):
        if number is not None:
            yield Line(offset, f"{words} {number}", {name: number}, depth=1)
    for level, number in edit.removed:
        fields: Fields = {"removed": number, "level": level}
        yield Line(offset, f"table {number} leaves level {level}", fields, depth=1)
    for table in edit.added:
        yield _added(offset, table, options)
    for one in edit.outcomes or ():
        fields = {
            "client": one.client_id.hex(),
            "request_no": one.request_no,
            "unanswered_no": one.unanswered_no,
            "first_seq": one.first_seq,
            "count": one.count,
            "reply": options.show(one.reply),
        }
        yield Line(offset, f"outcome: {_named(fields)}", fields, depth=1)


def _added(offset: int, table: TableMeta, options: DumpOptions) -> Line:
    upto = "no bound" if table.unbounded else key_text(table.largest, options)
    fields: Fields = {
        "added": table.number,
        "level": table.level,
        "file_bytes": table.file_bytes,
        "entries": table.entry_count,
        "deletes": table.delete_count,
        "range_deletes": table.range_delete_count,
        "expiring": table.expiring_count,
        "min_seq": table.min_seq,
        "max_seq": table.max_seq,
        "smallest": key_text(table.smallest, options),
        "largest": upto,
    }
    text = (
        f"table {table.number} joins level {table.level}: {table.file_bytes} bytes, "
        f"{table.entry_count} entries ({table.delete_count} deletes, {table.expiring_count} "
        f"expiring), {table.range_delete_count} range deletes, sequences {table.min_seq} to "
        f"{table.max_seq}, keys {fields['smallest']} to {upto}"
    )
    return Line(offset, text, fields, depth=1)
