"""Carry rows from a file to the database in batches, and know exactly how far that has come.

I1  Rows are committed in the order of their lines; a later line wins over an earlier one.
I2  When the import stops, for whatever reason, every row before the line that it names is
    committed, and it never says more than that. After a failed batch the rows from that line
    on may be there or not; importing them again does no harm.
I3  Nothing is resumed by itself: `--from-line N` is what the user says.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Protocol

from ferrisdb import errors, exit_codes
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.cli.lines import BadLine, Row, read_rows
from ferrisdb.cli.text import Parser
from ferrisdb.exit_codes import ExitCode

if TYPE_CHECKING:
    from tqdm import tqdm

BATCH_BYTES_MAX = 1 << 20
"""A batch is sent when its rows are this long: large values must not pile up in memory."""

BAD_LINES_SHOWN_MAX = 20


class Sink(Protocol):
    """What an import needs of a database."""

    def put_many(self, pairs: list[tuple[bytes, bytes]], *, durability: str) -> object:
        """Commit the pairs."""

    def flush(self) -> object:
        """Sync what was committed."""


class Importer:
    """One import in progress: counts what is committed, and says where it stopped."""

    def __init__(
        self,
        db: Sink,
        name: str,
        durability: str,
        batch_rows: int,
        skip_bad: bool,
        bar: tqdm[NoReturn],
    ) -> None:
        self._db = db
        self._name = name
        self._durability = durability
        self._batch_rows = batch_rows
        self._skip_bad = skip_bad
        self._bar = bar
        #: Rows read and not yet committed, and their bytes.
        self._rows: list[tuple[bytes, bytes]] = []
        self._row_bytes = 0
        #: Every row before this line is committed.
        self._resume_line = 1
        self._committed_count = 0
        self._bad_count = 0

    def run(self, source: BinaryIO, parse: Parser, from_line: int) -> None:
        """Import every row.

        Raises:  CommandFailure, at a bad line or a failed batch, with what is committed (I2).
        """
        self._resume_line = from_line
        next_line = from_line
        try:
            for row in read_rows(source, parse, from_line):
                next_line = row.line + 1
                if isinstance(row, Row):
                    self._add(row)
                elif self._skip_bad:
                    self._skip(row)
                else:
                    self._commit(row.line)
                    self._db.flush()
                    raise self._refused(row)
                self._show_progress(source)
            self._commit(next_line)
            self._db.flush()
        except (errors.Error, KeyboardInterrupt, OSError) as error:
            raise self._stopped(error) from error

    def summary(self) -> str:
        """Say what was done."""
        skipped = f", {self._bad_count:,} bad lines skipped" if self._bad_count else ""
        return f"{self._committed_count:,} rows imported{skipped}"

    def _add(self, row: Row) -> None:
        row_bytes = len(row.key) + len(row.value)
        if self._rows and self._row_bytes + row_bytes > BATCH_BYTES_MAX:
            self._commit(row.line)
        self._rows.append((row.key, row.value))
        self._row_bytes += row_bytes
        if len(self._rows) >= self._batch_rows:
            self._commit(row.line + 1)

    def _commit(self, next_line: int) -> None:
        if self._rows:
            self._db.put_many(self._rows, durability=self._durability)
        self._committed_count += len(self._rows)
        self._rows = []
        self._row_bytes = 0
        self._resume_line = next_line

    def _skip(self, bad: BadLine) -> None:
        self._bad_count += 1
        if self._bad_count <= BAD_LINES_SHOWN_MAX:
            self._bar.write(f"ferrisdb: line {bad.line}: {bad.reason}; skipped", file=sys.stderr)
        if self._bad_count == BAD_LINES_SHOWN_MAX:
            self._bar.write("ferrisdb: further bad lines are only counted", file=sys.stderr)

    def _show_progress(self, source: BinaryIO) -> None:
        if not self._bar.disable and not self._rows:
            self._bar.update(source.tell() - self._bar.n)

    def _refused(self, bad: BadLine) -> CommandFailure:
        return CommandFailure(
            f"line {bad.line} of {self._name}: {bad.reason}; {self.summary()}, none from this "
            f"line on; mend it and go on with --from-line {bad.line}, or leave it out by "
            "--skip-bad",
            ExitCode.BAD_INPUT,
        )

    def _stopped(self, error: BaseException) -> CommandFailure:
        code = exit_codes.for_error(error)
        if isinstance(error, OSError) and not isinstance(error, errors.Error):
            code = ExitCode.STORAGE
        reason = str(error) or type(error).__name__
        return CommandFailure(
            f"{reason}; stopped: {self.summary()}; go on with --from-line {self._resume_line}",
            code,
        )
