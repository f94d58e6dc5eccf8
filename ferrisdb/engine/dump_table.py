"""Print a table: footer, properties, pages, blocks and entries, hash index, range tombstones.

Read piece by piece: a table of any size is printed in bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ferrisdb.engine.dump import DumpOptions, Fields, Line, fault_line, header_line, key_text
from ferrisdb.engine.tablescan import LostPart, TableScan
from ferrisdb.errors import Error
from ferrisdb.format.blocks import Block, BlockEntry
from ferrisdb.format.sstable import FOOTER_BYTES, PAGE_BYTES, TableProperties
from ferrisdb.format.wal import OpKind
from ferrisdb.seams import FileSystem

_BUCKET_BYTES: Final = 64
_BUCKET_SLOTS: Final = 12
_BUCKETS_AT_ONCE: Final = 1024


def summarise_table(fs: FileSystem, path: str) -> str:
    """Return a line about a table, from its footer and properties."""
    file = fs.open_read(path)
    try:
        scan = TableScan(file, path)
    finally:
        file.close()
    p = scan.properties
    if p is None:
        return f"DAMAGED: {scan.faults[0]}"
    return (
        f"{p.entry_count} entries, {p.delete_count} of them deletes, {p.fragment_count} range "
        f"tombstones, sequences {p.min_seq} to {p.max_seq}"
    )


def dump_table(fs: FileSystem, path: str, options: DumpOptions) -> Iterator[Line]:
    """Yield a table's lines, in the order of the file but for footer and properties, which
    say where the rest is.

    Raises: StorageError.
    """
    file = fs.open_read(path)
    try:
        scan = TableScan(file, path)
        if scan.header is not None:
            yield header_line(scan.header)
        for fault in scan.faults:
            yield fault_line(0, fault)
        yield from _footer(scan)
        if scan.properties is not None:
            yield from _properties(scan, scan.properties, options)
        if not scan.page_area:
            yield Line(0, "without page checksums nothing else can be told from damage")
            return
        yield from _pages(scan)
        known = len(scan.faults)
        for one in scan.blocks():
            yield from _block(one, options)
        if scan.properties is not None:
            yield from _hash_index(scan, scan.properties)
            yield from _ranges(scan, scan.properties, options)
        for fault in scan.faults[known:]:
            yield fault_line(0, fault)
    finally:
        file.close()


def _footer(scan: TableScan) -> Iterator[Line]:
    footer = scan.footer
    if footer is None:
        return
    fields: Fields = {
        "page_area_bytes": footer.page_area_bytes,
        "pages": footer.page_count,
        "groups": footer.group_count,
        "properties_offset": footer.properties_offset,
        "properties_bytes": footer.properties_bytes,
        "properties_crc": f"{footer.properties_crc:#010x}",
        "file_bytes": footer.file_bytes,
        "file_number": footer.file_number,
    }
    at = scan.file_bytes - FOOTER_BYTES
    damaged = any(getattr(fault, "offset", -1) == at for fault in scan.faults)
    verdict = "as it must have been" if damaged else "checksum right"
    text = ", ".join(f"{name} {value}" for name, value in fields.items())
    yield Line(at, f"footer {text}, {verdict}", fields)


def _properties(scan: TableScan, p: TableProperties, options: DumpOptions) -> Iterator[Line]:
    assert scan.footer is not None
    at = scan.footer.properties_offset + 4 * scan.footer.group_count
    yield Line(at, "properties, checksum right")
    for name in p.__dataclass_fields__:
        value: object = getattr(p, name)
        if name == "origin":
            for part in ("inputs", "retired"):
                numbers = " ".join(str(n) for n in getattr(p.origin, part)) or "none"
                yield Line(at, f"{part} {numbers}", {part: getattr(p.origin, part)}, depth=1)
            number = p.origin.log_number
            yield Line(at, f"log_number {number}", {"log_number": number}, depth=1)
            continue
        if name == "database_id":
            value = p.database_id.hex()
        elif isinstance(value, bytes):
            value = key_text(value, options)
        yield Line(at, f"{name} {value}", {name: value}, depth=1)


def _pages(scan: TableScan) -> Iterator[Line]:
    bad = scan.bad_pages()
    yield Line(0, f"{scan.page_count} pages of {PAGE_BYTES} bytes, {len(bad)} of them DAMAGED"
               if bad else f"{scan.page_count} pages of {PAGE_BYTES} bytes, all checksums right",
               {"pages": scan.page_count, "bad": bad})  # fmt: skip
    for page in bad:
        at = page * PAGE_BYTES
        found = scan.page_crc(page)
        text = f"DAMAGED: page with checksum {scan.page_checksum(page):#010x}, found {found:#010x}"
        yield Line(at, text, {"page": page}, depth=1)


def _block(one: Block | LostPart, options: DumpOptions) -> Iterator[Line]:
    if isinstance(one, LostPart):
        upto = "?" if one.upto is None else key_text(one.upto, options)
        above = "the first key" if one.above is None else f"behind {key_text(one.above, options)}"
        text = f"DAMAGED: bytes up to {one.end}: keys from {above} up to {upto}"
        yield Line(one.begin, text, {"end": one.end})
        return
    restarts = " ".join(str(at) for at in one.restarts)
    fields: Fields = {
        "bytes": one.end - one.begin,
        "entries": len(one.entries),
        "restarts": list(one.restarts),
    }
    text = f"block of {one.end - one.begin} bytes, {len(one.entries)} entries, restarts {restarts}"
    yield Line(one.begin, text, fields)
    for entry in one.entries:
        yield _entry(entry, options)


def _entry(entry: BlockEntry, options: DumpOptions) -> Line:
    name = entry.kind.name.lower().replace("_", " ")
    fields: Fields = {"seq": entry.seq, "kind": name, "key": key_text(entry.key, options)}
    seq = str(entry.seq) if entry.has_seq else "(0)"
    text = f"{seq} {name} {fields['key']}"
    if entry.kind is OpKind.PUT_EXPIRING:
        fields["expires_us"] = entry.expires_us
        text += f" expires {entry.expires_us}"
    if entry.shared_bytes:
        fields["shared_bytes"] = entry.shared_bytes
        text += f" ({entry.shared_bytes} bytes of it shared)"
    if entry.is_older:
        fields["older"] = True
        text += " (older)"
    if entry.kind is not OpKind.DELETE and not options.keys_only:
        fields["value"] = options.show(entry.value)
        text += f" = {fields['value']}"
    return Line(entry.offset, text, fields, depth=1, is_item=True)


def _hash_index(scan: TableScan, p: TableProperties) -> Iterator[Line]:
    if p.filtered:
        yield from _filter(scan, p)
        return
    used = overflowed = full = bad = 0
    for first in range(0, p.bucket_count, _BUCKETS_AT_ONCE):
        begin = p.hash_offset + _BUCKET_BYTES * first
        end = min(begin + _BUCKET_BYTES * _BUCKETS_AT_ONCE, p.index_offset)
        if not scan.is_whole(begin, end):
            bad += 1
            continue
        stored = scan.read(begin, end)
        for at in range(0, len(stored), _BUCKET_BYTES):
            slots = _BUCKET_SLOTS - stored.count(0, at, at + _BUCKET_SLOTS)
            used += slots
            full += slots == _BUCKET_SLOTS
            overflowed += stored[at + 12 : at + 16] != b"\0\0\0\0"
    if not p.bucket_count:
        return
    fields: Fields = {"buckets": p.bucket_count, "used": used, "full": full}
    share = 100 * used / (p.bucket_count * _BUCKET_SLOTS)
    text = (
        f"hash index of {p.bucket_count} buckets: {used} slots used ({share:.0f} %), {full} "
        f"buckets full, {overflowed} with keys turned away"
    )
    yield Line(p.hash_offset, f"{text}, parts of it DAMAGED" if bad else text, fields)


def _filter(scan: TableScan, p: TableProperties) -> Iterator[Line]:
    set_bits = bad = 0
    for first in range(0, p.bucket_count, _BUCKETS_AT_ONCE):
        begin = p.hash_offset + _BUCKET_BYTES * first
        end = min(begin + _BUCKET_BYTES * _BUCKETS_AT_ONCE, p.index_offset)
        if scan.is_whole(begin, end):
            set_bits += int.from_bytes(scan.read(begin, end), "little").bit_count()
        else:
            bad += 1
    fields: Fields = {"filter_blocks": p.bucket_count, "set_bits": set_bits}
    share = 100 * set_bits / max(8 * _BUCKET_BYTES * p.bucket_count, 1)
    text = f"Bloom filter of {p.bucket_count} blocks: {set_bits} bits set ({share:.0f} %)"
    yield Line(p.hash_offset, f"{text}, parts of it DAMAGED" if bad else text, fields)


def _ranges(scan: TableScan, p: TableProperties, options: DumpOptions) -> Iterator[Line]:
    if not p.fragment_count:
        return
    at = p.tombstones_offset
    try:
        ranges = scan.ranges()
    except Error as error:
        yield fault_line(at, error)
        return
    if ranges is None:
        yield Line(at, f"DAMAGED: {p.fragment_count} range tombstones")
        return
    yield Line(at, f"range tombstones: {p.fragment_count} fragments, {len(ranges)} sequences")
    for start, end, seq in ranges:
        upto = key_text(end, options) if end else "the end"
        fields: Fields = {"seq": seq, "start": key_text(start, options), "end": upto}
        text = f"{seq} range delete from {fields['start']} up to {upto}"
        yield Line(at, text, fields, depth=1, is_item=True)
