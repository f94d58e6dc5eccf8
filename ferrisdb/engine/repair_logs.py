"""Replay WAL files that a start would refuse, or that no MANIFEST speaks of, into tables.

Of each file the records up to the first bad one count, and those behind it if the bad one is
known to have been durable (salvage.py, S2). Files of several generations lie side by side only
where a recovery was under way, or its removals were undone: what the newest has is taken from it;
of the older ones what it lacks, up to their first bad record.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from itertools import pairwise

from ferrisdb.engine.salvage import WriteSettings, offsets_of, replay_records
from ferrisdb.engine.survey import Survey, WalFinding, read_wal
from ferrisdb.engine.walwalk import RecordPlace, WalWalk
from ferrisdb.errors import CorruptionError, Error
from ferrisdb.format import wal
from ferrisdb.format.edit import Outcome, TableMeta
from ferrisdb.format.filenames import FileKind, format_name
from ferrisdb.kernel.walscan import outcomes
from ferrisdb.seams import FileSystem


class LogReplay:
    """The replay of one repair, and what it found."""

    def __init__(self, to: WriteSettings, survey: Survey, numbers: Iterator[int]) -> None:
        self._to, self._survey, self._supply = to, survey, numbers
        self.tables: list[TableMeta] = []
        #: File name, fate, particulars.
        self.notes: list[tuple[str, str, list[str]]] = []
        self.lost: list[str] = []
        self.last_seq = 0
        #: Runs of sequences that were taken, disjoint.
        self._taken: list[tuple[int, int]] = []
        #: Runs that a file should hold and does not.
        self._missing: list[tuple[int, int]] = []
        self._unanswered: dict[bytes, int] = {}
        self._rows: list[Outcome] = []

    @staticmethod
    def has_commits_of_its_own(fs: FileSystem, finding: WalFinding) -> bool:
        """Tell whether a file took commits after the recovery that wrote it."""
        if finding.header is None:
            return False
        _, walk = read_wal(fs, finding)
        own_from = max(
            finding.header.synced_end, wal.FIRST_RECORD_OFFSET + wal.OPENING_RECORD_BYTES
        )
        return walk.sound_end > own_from

    def run(self, numbers: list[int]) -> None:
        """Replay the files of these numbers."""
        found: list[WalFinding] = []
        for number in numbers:
            one = self._survey.wals[number]
            if one.header is None:
                self.notes.append((one.name, "damaged", [str(one.error)]))
                self.lost.append(f"{one.name}: everything; without its header nothing checks out")
            else:
                found.append(one)
        generations = sorted({one.header.generation for one in found if one.header}, reverse=True)
        for generation in generations:
            ours = [one for one in found if one.header and one.header.generation == generation]
            self._generation(ours, is_newest=generation == generations[0])
        self._report_missing()

    def _generation(self, files: list[WalFinding], *, is_newest: bool) -> None:
        held: tuple[WalFinding, bytes, WalWalk] | None = None
        for one in files:
            buffer, walk = read_wal(self._to.fs, one)
            if held is not None:
                self._file(*held, _predecessor(buffer, walk, held[0].number), is_newest)
            held = one, buffer, walk
        if held is not None:
            self._file(*held, (0, 0), is_newest)

    def _file(
        self,
        one: WalFinding,
        buffer: bytes,
        walk: WalWalk,
        proven: tuple[int, int],
        is_newest: bool,
    ) -> None:
        assert one.header is not None
        proven_end, next_seq = proven
        marks = [place.synced_to for place in walk.behind]
        durable = max([one.header.synced_end, proven_end, *marks])
        is_damage = durable > walk.sound_end
        chosen = list(walk.sound)
        particulars = [
            f"{len(walk.sound)} whole records up to byte {walk.sound_end}{_span(walk.sound)}"
        ]
        if is_damage:
            self.lost.append(
                f"{one.name}: a record at byte {walk.sound_end} that had been durable up to byte "
                f"{durable} is damaged"
            )
        if walk.behind:
            text = f"{len(walk.behind)} whole records behind it, from byte {walk.behind[0].offset}"
            if is_damage and is_newest:
                chosen += walk.behind
                particulars.append(f"{text}{_span(walk.behind)}: taken too")
            else:
                particulars.append(f"{text}: a torn tail, dropped as by any start")
        self._note_missing(chosen, next_seq)
        fresh = [place for place in chosen if self._is_fresh(place)]
        try:
            unanswered, rows = outcomes(buffer, offsets_of(fresh))
            written = replay_records(self._to, buffer, fresh, one.number, self._supply)
        except Error as error:
            if not isinstance(error, CorruptionError):
                raise
            written = []
            self.lost.append(f"{one.name}: {error}")
        for client_id, number in unanswered.items():
            self._unanswered[client_id] = max(self._unanswered.get(client_id, 0), number)
        self._rows += (Outcome(*row) for row in rows)
        for place in fresh:
            self._take(place)
        self.last_seq = max([self.last_seq, *(p.first_seq + p.count - 1 for p in chosen)])
        self.tables += written
        names = [format_name(FileKind.TABLE, meta.number) for meta in written]
        self.notes.append((one.name, f"replayed into {', '.join(names) or 'nothing'}", particulars))
        for meta, name in zip(written, names, strict=True):
            self.notes.append((name, "new", [f"{meta.entry_count} entries of {one.name}"]))

    def _is_fresh(self, place: RecordPlace) -> bool:
        if not place.count:
            return False
        at = bisect_right(self._taken, (place.first_seq, 1 << 63)) - 1
        before = at >= 0 and self._taken[at][1] >= place.first_seq
        behind = at + 1 < len(self._taken) and (
            self._taken[at + 1][0] < place.first_seq + place.count
        )
        return not before and not behind

    def _take(self, place: RecordPlace) -> None:
        first, last = place.first_seq, place.first_seq + place.count - 1
        at = bisect_right(self._taken, (first, 0)) - 1
        if at >= 0 and self._taken[at][1] + 1 == first:
            self._taken[at] = (self._taken[at][0], last)
        else:
            insort(self._taken, (first, last))

    def _note_missing(self, chosen: list[RecordPlace], next_seq: int) -> None:
        """Note the sequences between the records, and before the successor's first."""
        for place, after in pairwise(chosen):
            if after.first_seq > place.first_seq + place.count:
                self._missing.append((place.first_seq + place.count, after.first_seq - 1))
        if chosen and next_seq > chosen[-1].first_seq + chosen[-1].count:
            self._missing.append((chosen[-1].first_seq + chosen[-1].count, next_seq - 1))

    def _report_missing(self) -> None:
        for first, last in self._missing:
            # The file of another generation may hold them.
            if not any(begin <= first and last <= end for begin, end in self._taken):
                self.lost.append(f"the logs: sequences {first} to {last}")

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return the outcomes that a client may still ask for."""
        return tuple(one for one in self._rows if one.request_no >= self._unanswered[one.client_id])


def _predecessor(buffer: bytes, walk: WalWalk, number: int) -> tuple[int, int]:
    """Return what a file's opening record proves of its predecessor: its end, the next sequence.

    (0, 0) if it is not of this predecessor.
    """
    if not walk.sound:
        return 0, 0
    request_no, unanswered_no = (
        int.from_bytes(buffer[walk.sound[0].offset + at :][:8], "little") for at in (56, 64)
    )
    if request_no != number or walk.sound[0].count:
        return 0, 0
    return unanswered_no, walk.sound[0].first_seq


def _span(places: tuple[RecordPlace, ...]) -> str:
    counted = [place for place in places if place.count]
    if not counted:
        return ""
    return f", sequences {counted[0].first_seq} to {counted[-1].first_seq + counted[-1].count - 1}"
