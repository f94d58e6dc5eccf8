"""A client's operations, made a chunk at a time, and the check of what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ferrisdb.bench.chunk import Call, Chunk
from ferrisdb.bench.distributions import distribution
from ferrisdb.bench.engines import Engine, Pairs
from ferrisdb.bench.operations import NEXT_ROW_COUNT, VALUED, Kind
from ferrisdb.bench.records import ABSENT, Numbers, Records, digits_of, keys_of
from ferrisdb.bench.task import Tally, Task, WrongAnswer

HOT: Final = ABSENT << 1
"""Transactions' keys have numbers from here on."""

CLIENTS_MAX: Final = 1 << 10
_MIXABLE: Final = VALUED | {Kind.READ, Kind.MISS, Kind.SCAN}


class Stream:
    """What one client does in one cell, on one handle.

    Owner:  one thread.
    """

    def __init__(self, engine: Engine, task: Task, tally: Tally) -> None:
        self._engine = engine
        self._task = task
        self._tally = tally
        self._role = role = task.role
        self._records = Records(task.rows.value_bytes, compressible=task.rows.compressible)
        self._keys_of: Callable[[Numbers], list[bytes]] = (
            digits_of if task.rows.sequential else keys_of
        )
        self._rng = np.random.default_rng(task.seed)
        self._choice = distribution(role.choice, max(task.rows.loaded, 1), role.theta, self._rng)
        shares = np.array([share for _, share in role.shares], dtype=np.float64)
        self._bounds = np.cumsum(shares / shares.sum())[:-1]
        assert len(role.shares) == 1 or _MIXABLE.issuperset(role.kinds)
        #: Numbers that it has taken to insert and to delete, and versions that it has given away.
        self._inserting = self._deleting = self._version = 0
        self._calls = _calls_of(engine, self)
        self._rows: Iterator[tuple[bytes, bytes]] | None = None
        self._row_count = 0
        self._last_key: bytes | None = None
        #: The last operations that were done.
        self._last: tuple[Chunk, int] | None = None

    # What operations are made of

    def chunk(self, count: int) -> Chunk:
        """Return the next operations, fewer where there is nothing left to delete."""
        kinds = self._role.kinds
        if len(kinds) == 1:
            (kind,) = kinds
            if kind is Kind.BATCH:
                return self._batches(count)
            keys = self._keys_of(self._numbers(kind, count))
            return Chunk(kinds, None, self._calls[kind], keys, self._extras(kind, keys))
        places = np.searchsorted(self._bounds, self._rng.random(count), side="right")
        keys = self._keys_of(self._mixed_numbers(places))
        calls = [self._calls[kind] for kind in kinds]
        extras: list[Any] = [None] * count
        for at, kind in enumerate(kinds):
            where = np.flatnonzero(places == at).tolist()
            made = self._extras(kind, [keys[index] for index in where])
            for index, extra in zip(where, made or (), strict=made is not None):
                extras[index] = extra
        return Chunk(kinds, places, [calls[at] for at in places.tolist()], keys, extras)

    def _numbers(self, kind: Kind, count: int) -> Numbers:
        rows, task = self._task.rows, self._task
        steps = np.arange(count, dtype=np.uint64)
        if kind is Kind.INSERT:
            first = rows.next_number + task.client + self._inserting * task.clients
            self._inserting += count
            return steps * np.uint64(task.clients) + np.uint64(first)
        if kind is Kind.DELETE:
            first = rows.deleted + task.client + self._deleting * task.clients
            self._deleting += count
            numbers = steps * np.uint64(task.clients) + np.uint64(first)
            return numbers[numbers < rows.loaded]
        if kind is Kind.TRANSACTION:
            return self._rng.integers(0, self._role.hot_keys, count, dtype=np.uint64) + np.uint64(
                HOT
            )
        if kind is Kind.MISS:
            return self._there(count) + np.uint64(ABSENT)
        if kind in (Kind.NEXT_ROWS, Kind.PREVIOUS_ROWS):
            return steps
        return self._there(count)

    def _there(self, count: int, inserted: npt.NDArray[np.int64] | None = None) -> Numbers:
        """Choose keys that are there when their turn comes.

        Shape:   inserted, how many more this client will have inserted before each.
        """
        drawn = self._choice.draw(count)
        if self._role.choice != "latest":
            return drawn
        # The newest are those of this client: it knows that they are there.
        own = (self._inserting if inserted is None else self._inserting + inserted) - drawn.astype(
            np.int64
        )
        task = self._task
        newest = task.rows.next_number + task.client + (own - 1) * task.clients
        return np.where(own > 0, newest, task.rows.loaded - 1 + own).astype(np.uint64)

    def _mixed_numbers(self, places: npt.NDArray[np.intp]) -> Numbers:
        kinds, count = self._role.kinds, len(places)
        if Kind.INSERT not in kinds:
            numbers = self._there(count)
        else:
            inserts = places == kinds.index(Kind.INSERT)
            made = np.cumsum(inserts)
            numbers = self._there(count, made - inserts)
            numbers[inserts] = self._numbers(Kind.INSERT, int(made[-1]))
        if Kind.MISS in kinds:
            numbers[places == kinds.index(Kind.MISS)] += np.uint64(ABSENT)
        return numbers

    def _extras(self, kind: Kind, keys: list[bytes]) -> list[Any] | None:
        role = self._role
        if kind in VALUED:
            return [self._value(key) for key in keys]
        if kind is Kind.SCAN:
            if not role.scans_vary:
                return [role.scan_rows] * len(keys)
            drawn: list[int] = self._rng.integers(1, role.scan_rows + 1, len(keys)).tolist()
            return drawn
        return None

    def _batches(self, count: int) -> Chunk:
        """Return batches: of new rows where nothing was loaded, otherwise of others' new values."""
        size = self._role.batch_rows
        kind = Kind.UPDATE if self._task.rows.loaded else Kind.INSERT
        keys = self._keys_of(self._numbers(kind, count * size))
        pairs = [(key, self._value(key)) for key in keys]
        batches = [pairs[at : at + size] for at in range(0, len(pairs), size)]
        return Chunk(
            self._role.kinds, None, self._calls[Kind.BATCH], [b[0][0] for b in batches], batches
        )

    def _value(self, key: bytes) -> bytes:
        self._version += 1
        return self._records.value(key, self._version * CLIENTS_MAX + self._task.client)

    # Calls that an engine has not as one

    def modify(self, key: bytes, value: bytes) -> bytes | None:
        """Read a value and write another one."""
        before = self._engine.get(key)
        self._engine.put(key, value)
        return before

    def transact(self, key: bytes) -> int:
        """Give a key its next version, as a transaction; returns how many attempts it took."""
        records = self._records

        def change(before: bytes | None) -> bytes:
            version = None if before is None else records.version(key, before)
            if version is None:
                raise WrongAnswer(f"a transaction reads {_shown(before)} of {key!r}")
            self._tally.verified += 1
            return records.value(key, version + 1)

        attempts = self._engine.replace(key, change)
        self._tally.retries += attempts - 1
        return attempts

    def write_batch(self, key: bytes, pairs: Pairs) -> None:
        """Write a batch."""
        del key
        self._engine.put_batch(pairs)

    def next_rows(self, key: bytes) -> Pairs:
        """Return the next of all rows, fewer where they end; then they begin anew."""
        del key
        if self._rows is None:
            reverse = self._role.kinds == (Kind.PREVIOUS_ROWS,)
            self._rows = iter(self._engine.all_rows(reverse=reverse))
        found = list(islice(self._rows, NEXT_ROW_COUNT))
        if len(found) < NEXT_ROW_COUNT:
            self._rows = None
        return found

    # What they returned

    def check(self, chunk: Chunk, kept: list[Any]) -> None:
        """Compare what a chunk's first operations returned with what they had to.

        Raises:  WrongAnswer.
        """
        if not self._engine.keeps:
            return
        for index in range(len(kept)):
            kind, key, found = chunk.kind_of(index), chunk.keys[index], kept[index]
            if kind in (Kind.READ, Kind.MODIFY):
                self._check_value(key, found)
            elif kind is Kind.MISS:
                self._tally.verified += 1
                if found is not None:
                    raise WrongAnswer(f"{key!r}, which is not there, has the value {_shown(found)}")
            elif kind is Kind.SCAN:
                assert chunk.extras is not None
                self._check_scan(key, chunk.extras[index], found)
        if chunk.kinds[0] in (Kind.NEXT_ROWS, Kind.PREVIOUS_ROWS):
            for rows in kept:
                self._check_next_rows(rows)

    def note(self, chunk: Chunk, done: int) -> None:
        """Count what the first operations of a chunk have inserted, deleted or committed."""
        tally = self._tally
        self._last = chunk, done
        (kind, *others) = chunk.kinds
        if others:
            if Kind.INSERT in chunk.kinds and chunk.places is not None:
                at = chunk.kinds.index(Kind.INSERT)
                tally.inserted += int((chunk.places[:done] == at).sum())
        elif kind is Kind.INSERT:
            tally.inserted += done
        elif kind is Kind.BATCH and not self._task.rows.loaded:
            assert chunk.extras is not None
            tally.inserted += sum(len(batch) for batch in chunk.extras[:done])
        elif kind is Kind.DELETE:
            tally.deleted += done
        elif kind is Kind.TRANSACTION:
            tally.committed += done

    def _check_value(self, key: bytes, value: bytes | None, wanted: int | None = None) -> None:
        self._tally.verified += 1
        version = None if value is None else self._records.version(key, value)
        if version is None:
            raise WrongAnswer(f"{key!r} has the value {_shown(value)}, which nobody wrote")
        if wanted is not None and version != wanted:
            raise WrongAnswer(
                f"{key!r} has version {version}, not {wanted}, which was acknowledged"
            )

    def _check_scan(self, start: bytes, count: int, rows: Pairs) -> None:
        keys = [row[0] for row in rows]
        if any(a >= b for a, b in pairwise(keys)) or (keys and keys[0] < start):
            raise WrongAnswer(f"a scan from {start!r} returns keys that are not in order")
        if len(rows) > count or (len(rows) < count and self._has_more(start, count)):
            raise WrongAnswer(f"a scan of {count} rows from {start!r} returns {len(rows)}")
        for key, value in (rows[0], rows[-1]) if rows else ():
            self._check_value(key, value)

    def _has_more(self, start: bytes, count: int) -> bool:
        """Tell whether there are certainly so many rows behind a key."""
        if self._task.rows.sequential:
            return int(start, 16) + count < self._task.rows.loaded
        # Keys are spread evenly; the margin is many times what chance does.
        left = self._task.rows.loaded * (1 - int(start, 16) / 2**64)
        return left > 2 * count + 100

    def _check_next_rows(self, rows: Pairs) -> None:
        reverse = self._role.kinds == (Kind.PREVIOUS_ROWS,)
        self._row_count += len(rows)
        for key, value in (rows[0], rows[-1]) if rows else ():
            last = self._last_key
            if last is not None and key != last and (key < last) != reverse:
                raise WrongAnswer(f"{key!r} comes behind {last!r}")
            self._last_key = key
            self._check_value(key, value)
        if len(rows) < NEXT_ROW_COUNT:
            there = self._task.rows.loaded - self._task.rows.deleted
            if self._row_count != there and self._task.rows.next_number == self._task.rows.loaded:
                raise WrongAnswer(f"all rows are {self._row_count:,}, not {there:,}")
            self._row_count, self._last_key = 0, None

    def reread(self) -> None:
        """Read what the last operations have written.

        Raises:  WrongAnswer, something else is there.
        """
        engine = self._engine
        if self._last is None or not engine.keeps:
            return
        engine.ready(writers=True)
        exact = self._task.writes_alone
        for key, value in _written_by(*self._last).items():
            if value is None:
                self._tally.verified += 1
                if engine.get(key) is not None:
                    raise WrongAnswer(f"{key!r} is there, though its delete was acknowledged")
            else:
                wanted = self._records.version(key, value) if exact else None
                self._check_value(key, engine.get(key), wanted)


def _calls_of(engine: Engine, stream: Stream) -> dict[Kind, Call]:
    return {
        Kind.READ: engine.get,
        Kind.MISS: engine.get,
        Kind.UPDATE: engine.put,
        Kind.INSERT: engine.put,
        Kind.DELETE: engine.delete,
        Kind.SCAN: engine.rows_from,
        Kind.MODIFY: stream.modify,
        Kind.TRANSACTION: stream.transact,
        Kind.BATCH: stream.write_batch,
        Kind.NEXT_ROWS: stream.next_rows,
        Kind.PREVIOUS_ROWS: stream.next_rows,
    }


def _written_by(chunk: Chunk, done: int) -> dict[bytes, bytes | None]:
    """Return what a chunk's first writes leave behind, by key; None where it is deleted."""
    left: dict[bytes, bytes | None] = {}
    for index, key in enumerate(chunk.keys[:done]):
        kind = chunk.kind_of(index)
        if kind is Kind.DELETE:
            left[key] = None
        elif kind is Kind.BATCH:
            assert chunk.extras is not None
            left.update(chunk.extras[index])
        elif kind in VALUED:
            assert chunk.extras is not None
            left[key] = chunk.extras[index]
    return left


def _shown(value: bytes | None) -> str:
    return repr(value if value is None or len(value) <= 40 else value[:40] + b"...")
