"""The stores of one stage of a run: where they lie, what is in them, and whether all of it is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ferrisdb.bench.client import Load
from ferrisdb.bench.crew import CellFailure, Crew
from ferrisdb.bench.engines.base import CACHE_BYTES, FILTER_BITS, Engine
from ferrisdb.bench.plan import PlannedCell, Stage
from ferrisdb.bench.scale import Scale
from ferrisdb.bench.stream import HOT
from ferrisdb.bench.task import Place, Rows, Tally
from ferrisdb.bench.workloads import Base


class Stores:
    """One store for each engine, as long as it is entered.

    Owner:  the runner; leaving it ends what serves them and removes their folders.
    """

    def __init__(self, stage: Stage, scale: Scale, folder: Path, crew: Crew) -> None:
        self.base = stage.base
        self._scale = scale
        self._folder = folder / stage.base.value
        self._crew = crew
        self._served = ExitStack()
        self._rows: dict[str, Rows] = {}
        #: How many rows have to be there.
        self._there: dict[str, int] = {}
        self._broken: dict[str, str] = {}
        #: The last cell that inserted or deleted, by engine.
        self._changed: dict[str, PlannedCell] = {}
        self._uncounted: set[str] = set()
        self._fresh = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            # A client that is still at work would start a service anew.
            self._crew.close()
        try:
            self.end_serving()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def value_bytes(self) -> int:
        """Length of their values."""
        scale = self._scale
        return scale.record_bytes if self.base is Base.RECORDS else scale.value_bytes

    def place(self, kind: type[Engine], **settings: Any) -> Place:
        """Return where an engine's store is, and how it is to be opened."""
        return self._place_named(kind, kind.name, settings)

    def _place_named(self, kind: type[Engine], name: str, settings: dict[str, Any]) -> Place:
        usual = {
            "cache_bytes": CACHE_BYTES,
            "filter_bits": FILTER_BITS,
            "value_bytes": self.value_bytes,
        }
        return Place(kind.reference(), str(self._folder / name), usual | settings)

    def load(self, kind: type[Engine]) -> Tally:
        """Start a store and write its first rows.

        Raises:  CellFailure; the store is broken then.
        """
        place, count, first = self.place(kind), self._scale.keys, 0
        if self.base is Base.COUNTERS:
            count, first = max(self._scale.hot_keys), HOT
        rows = Rows(
            value_bytes=self.value_bytes,
            loaded=count,
            next_number=count,
            # As YCSB's fields and db_bench's values are.
            compressible=self.base is not Base.RECORDS,
        )
        try:
            self._served.enter_context(kind.served(place.folder, place.settings))
            tally: Tally = self._crew.ask("load", Load(place=place, rows=rows, first=first))
        except (CellFailure, OSError, SystemExit) as error:
            self._broken[kind.name] = f"it could not be loaded: {error}"
            raise CellFailure(str(error)) from None
        self._rows[kind.name] = rows
        self._there[kind.name] = count
        return tally

    def rest(self, kind: type[Engine]) -> None:
        """Wait until a store does nothing by itself any more."""
        if kind.name in self._rows:
            try:
                self._crew.ask("rest", self.place(kind))
            except CellFailure as error:
                self._broken[kind.name] = f"it failed behind its load: {error}"

    def fresh(self, kind: type[Engine], *, sequential: bool) -> FreshStore:
        """Return a store for one cell, which is empty."""
        self._fresh += 1
        place = self._place_named(kind, f"{self._fresh}.{kind.name}", {})
        rows = Rows(value_bytes=self.value_bytes, loaded=0, next_number=0, sequential=sequential)
        return FreshStore(kind, place, rows, self._crew)

    def rows_of(self, kind: type[Engine]) -> Rows:
        """Return what is in a store.

        Raises:  CellFailure, it is broken.
        """
        if kind.name in self._broken:
            raise CellFailure(self._broken[kind.name])
        return self._rows[kind.name]

    def note(self, planned: PlannedCell, tallies: Sequence[Tally]) -> None:
        """Note what a cell's clients have inserted and deleted."""
        name, clients = planned.engine.name, planned.clients
        inserted = [tally.inserted for tally in tallies]
        deleted = [tally.deleted for tally in tallies]
        if any(inserted) or any(deleted):
            self._changed[name] = planned
            self._there[name] += sum(inserted) - sum(deleted)
            rows = self._rows[name]
            self._rows[name] = replace(
                rows,
                next_number=rows.next_number + clients * max(inserted),
                deleted=rows.deleted + clients * max(deleted),
            )

    def note_failure(self, kind: type[Engine]) -> None:
        """Note that nobody knows how many rows there are."""
        self._uncounted.add(kind.name)

    def check_counts(self, kind: type[Engine]) -> tuple[PlannedCell, str] | None:
        """Count a store's rows; return the last cell that changed them if some are missing."""
        changed = self._changed.get(kind.name)
        if changed is None or kind.name in self._uncounted:
            return None
        try:
            check_count(self._crew, kind, self.place(kind), self._there[kind.name])
        except CellFailure as error:
            return changed, f"behind it {error}"
        return None

    def end_serving(self) -> None:
        """End what serves the stores; they stay where they are."""
        self._served.close()


class FreshStore:
    """A store that lives for one cell."""

    def __init__(self, kind: type[Engine], place: Place, rows: Rows, crew: Crew) -> None:
        self._crew = crew
        self.place = place
        self.rows = rows
        self._served = kind.served(place.folder, place.settings)

    def __enter__(self) -> Self:
        self._served.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._crew.close()
        try:
            self._served.__exit__(kind, error, trace)
        finally:
            shutil.rmtree(self.place.folder, ignore_errors=True)


def check_count(crew: Crew, kind: type[Engine], place: Place, wanted: int) -> None:
    """Count a store's rows.

    Raises:  CellFailure, there are more or fewer than there have to be.
    """
    if not kind.keeps:
        return
    found: int = crew.ask("count", place)
    if found != wanted:
        raise CellFailure(f"{found:,} rows are there, and not {wanted:,}")
