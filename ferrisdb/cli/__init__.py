"""The command line: `ferrisdb COMMAND DIR ...`, the database directory always first."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `ferrisdb.exit_codes`).

    Shape:   arguments without the program's name; None takes the process's own.
    """
    from ferrisdb.cli.app import run

    return run(arguments)
