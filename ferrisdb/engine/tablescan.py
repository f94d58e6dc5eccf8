"""Read a table past its damage: what each checksum says, and the blocks that check out.

A page whose bytes have the checksum that stands for it is whole, whatever became of the rest of
the file. Blocks that lie in whole pages are read: by the block index if that is whole, else one
behind the other from the first, up to the first that is not.

Where the footer is damaged, the page checksums are found by that of the first page. A table that
was cut short has lost them, and nothing in it can be told from damage.

Owner: any thread; reads the file piece by piece, never the whole of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ferrisdb.errors import CorruptionError, Error
from ferrisdb.format.blocks import Block, decode_block
from ferrisdb.format.header import HEADER_BYTES, MAGIC_TABLE, Header, decode_header
from ferrisdb.format.sstable import (
    FOOTER_BYTES,
    PAGE_BYTES,
    Footer,
    TableProperties,
    decode_footer,
    decode_fragments,
    decode_properties,
    encode_footer,
)
from ferrisdb.kernel.checksum import crc32c
from ferrisdb.seams import File

Range = tuple[bytes, bytes, int]
_BLOCK_READ_BYTES: Final = 1 << 16
_BLOCK_BYTES_MAX: Final = 1 << 28
_SEARCH_BYTES: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where the index says that a block lies, and the key that ends it."""

    number: int
    begin: int
    end: int
    separator: bytes


@dataclass(frozen=True, slots=True)
class LostPart:
    """Bytes that could not be read, and between which keys they lie (None: not known)."""

    begin: int
    end: int
    above: bytes | None
    upto: bytes | None


class TableScan:
    """One table file, as far as it can be read; each section's fault beside it."""

    def __init__(self, file: File, path: str) -> None:
        self._file = file
        self.path = path
        self.file_bytes = file.size()
        #: What is wrong, in the order of the file.
        self.faults: list[Error] = []
        self.header: Header | None = None
        self.footer: Footer | None = None
        self.properties: TableProperties | None = None
        self.page_area = 0
        self._pages: dict[int, bool] = {}
        self._crcs: tuple[int, bytes] = (-1, b"")
        self._read_ends()

    # Sections

    def _read_ends(self) -> None:
        size = self.file_bytes
        try:
            self.header = decode_header(self._file.pread(HEADER_BYTES, 0), MAGIC_TABLE, self.path)
        except Error as error:
            self.faults.append(error)
        at = max(size - FOOTER_BYTES, 0)
        try:
            self.footer = decode_footer(self._file.pread(FOOTER_BYTES, at), self.path, size)
            self.page_area = self.footer.page_area_bytes
        except Error as error:
            self.faults.append(error)
            self.page_area = self._find_page_area()
            self.footer = self._rebuild_footer()
        if self.footer is not None:
            try:
                self.properties = self._read_properties(self.footer)
            except Error as error:
                self.faults.append(error)

    def _read_properties(self, footer: Footer) -> TableProperties:
        at = footer.properties_offset
        tail = self._file.pread(footer.properties_bytes, at)
        if crc32c(tail) != footer.properties_crc:
            raise CorruptionError(
                self.path,
                at,
                f"properties with checksum {footer.properties_crc:#010x}",
                f"{crc32c(tail):#010x}",
            )
        skip = 4 * footer.group_count
        return decode_properties(tail[skip:], self.path, at + skip)

    def _rebuild_footer(self) -> Footer | None:
        """Return the footer that stood there, if what is left of the damaged one proves it."""
        size, area = self.file_bytes, self.page_area
        if not area or self.header is None:
            return None
        at = area + 4 * self.page_count
        tail = self._file.pread(max(size - FOOTER_BYTES - at, 0), at)
        groups = -(-self.page_count // (PAGE_BYTES // 4))
        number = self.header.file_number
        footer = Footer(area, self.page_count, groups, at, len(tail), crc32c(tail), size, number)
        right, found = encode_footer(footer), self._file.pread(FOOTER_BYTES, size - FOOTER_BYTES)
        # The properties' checksum, or the footer's own, which covers that one.
        return footer if right[28:32] == found[28:32] or right[52:56] == found[52:56] else None

    def _find_page_area(self) -> int:
        # The first page's checksum stands behind the page area, followed by the others'.
        size = self.file_bytes
        first = self._file.pread(min(PAGE_BYTES, size), 0)
        if size > 2 * PAGE_BYTES:
            begin = max(size - _SEARCH_BYTES, PAGE_BYTES)
            tail = self._file.pread(size - begin, begin)
            wanted = struct.pack("<I", crc32c(first))
            at = tail.find(wanted)
            while at >= 0:
                if self._proves_pages(begin + at):
                    return begin + at
                at = tail.find(wanted, at + 1)
            return 0
        whole = self._file.pread(size, 0)
        for area in range(HEADER_BYTES, size - FOOTER_BYTES):
            crc = struct.pack("<I", crc32c(whole[: min(area, PAGE_BYTES)]))
            if whole.startswith(crc, area) and self._proves_pages(area):
                return area
        return 0

    def _proves_pages(self, area: int) -> bool:
        pages = -(-area // PAGE_BYTES)
        if area + 4 * pages > self.file_bytes:
            return False
        stored = self._file.pread(4 * pages, area)
        right = 0
        tried = sorted({0, pages // 3, pages // 2, pages - 1})
        for page in tried:
            begin = page * PAGE_BYTES
            content = self._file.pread(min(PAGE_BYTES, area - begin), begin)
            right += crc32c(content) == struct.unpack_from("<I", stored, 4 * page)[0]
        return right > len(tried) // 2

    # Pages

    @property
    def page_count(self) -> int:
        """How many pages have a checksum that could be found."""
        return -(-self.page_area // PAGE_BYTES)

    def page_is_whole(self, page: int) -> bool:
        """Tell whether a page's bytes have the checksum that stands for it."""
        known = self._pages.get(page)
        if known is None:
            known = self._pages[page] = self.page_crc(page) == self.page_checksum(page)
        return known

    def page_crc(self, page: int) -> int:
        """Return the checksum that a page's bytes have."""
        begin = page * PAGE_BYTES
        return crc32c(self._file.pread(min(PAGE_BYTES, self.page_area - begin), begin))

    def page_checksum(self, page: int) -> int:
        """Return the checksum that stands for a page."""
        group = page >> 10
        if self._crcs[0] != group:
            at = self.page_area + PAGE_BYTES * group
            self._crcs = group, self._file.pread(PAGE_BYTES, at)
        stored = self._crcs[1][4 * (page & 1023) :][:4]
        return int.from_bytes(stored, "little") if len(stored) == 4 else -1

    def is_whole(self, begin: int, end: int) -> bool:
        """Tell whether bytes from begin to end lie in whole pages."""
        if not 0 <= begin <= end <= self.page_area:
            return False
        pages = range(begin // PAGE_BYTES, -(-end // PAGE_BYTES))
        return all(self.page_is_whole(page) for page in pages)

    def bad_pages(self) -> list[int]:
        """Return the pages whose checksums don't match."""
        return [page for page in range(self.page_count) if not self.page_is_whole(page)]

    # What the pages hold

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes of a section."""
        return self._file.pread(end - begin, begin)

    def index(self) -> list[BlockPlace] | None:
        """Return the block index; None where it is damaged or its place is not known."""
        p = self.properties
        if p is None or not p.block_count:
            return None if p is None else []
        n, begin = p.block_count, p.index_offset
        if not self.is_whole(begin, p.tombstones_offset):
            return None
        stored = self.read(begin, p.tombstones_offset)
        offsets = struct.unpack_from(f"<{n + 1}I", stored, 8 * n)
        ends = struct.unpack_from(f"<{n}I", stored, 12 * n + 4)
        keys = stored[16 * n + 4 :]
        places: list[BlockPlace] = []
        for i in range(n):
            start = ends[i - 1] if i else 0
            if not offsets[i] < offsets[i + 1] <= p.data_end or not start <= ends[i] <= len(keys):
                self.faults.append(
                    CorruptionError(self.path, begin, "ascending blocks and keys", i)
                )
                return None
            places.append(BlockPlace(i, offsets[i], offsets[i + 1], keys[start : ends[i]]))
        return places

    def blocks(self) -> Iterator[Block | LostPart]:
        """Yield the table's blocks in order, and what is lost in between."""
        places = self.index()
        if places is None:
            yield from self._walk()
            return
        above: bytes | None = None
        for place in places:
            lost = LostPart(place.begin, place.end, above, place.separator)
            above = place.separator
            block = None
            if self.is_whole(place.begin, place.end):
                try:
                    block = decode_block(self.read(place.begin, place.end), place.begin, self.path)
                except CorruptionError as error:
                    self.faults.append(error)
            yield lost if block is None or block.end != place.end else block

    def _walk(self) -> Iterator[Block | LostPart]:
        begin = HEADER_BYTES
        stop = self.properties.data_end if self.properties is not None else self.page_area
        above: bytes | None = None
        while begin < stop:
            block = self._block_at(begin, stop)
            if block is None:
                # Behind the last block there are zeros or the hash index; which it is can't be
                # told without the properties.
                if self.properties is not None or not self._ends_at(begin):
                    yield LostPart(begin, stop, above, None)
                return
            above = block.entries[-1].key
            yield block
            begin = block.end

    def _block_at(self, begin: int, stop: int) -> Block | None:
        want = _BLOCK_READ_BYTES
        while True:
            end = min(begin + want, stop)
            while end > begin and not self.is_whole(begin, end):
                end = (end - 1) // PAGE_BYTES * PAGE_BYTES
            if end <= begin:
                return None
            try:
                block = decode_block(self.read(begin, end), begin, self.path)
            except CorruptionError:
                return None
            if block is not None or end < begin + want or want > _BLOCK_BYTES_MAX:
                return block
            want *= 4

    def _ends_at(self, begin: int) -> bool:
        at = -(-begin // 64) * 64
        return self.is_whole(begin, min(at + 64, self.page_area)) and not any(self.read(begin, at))

    def ranges(self) -> list[Range] | None:
        """Return the range tombstones; None where they are damaged or their place is not known."""
        p = self.properties
        if p is None:
            return None
        begin, end = p.tombstones_offset, p.tombstones_offset + p.tombstones_bytes
        if not p.fragment_count:
            return []
        if not self.is_whole(begin, end):
            return None
        try:
            found = decode_fragments(self.read(begin, end), p.fragment_count, self.path, begin)
        except CorruptionError as error:
            self.faults.append(error)
            return None
        return [(start, stop, seq) for start, stop, seqs in found for seq in seqs]
