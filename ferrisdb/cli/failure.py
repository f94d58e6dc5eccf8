"""End a command with a message and an exit code that no error class stands for."""

from __future__ import annotations

from ferrisdb.exit_codes import ExitCode


class CommandFailure(Exception):
    """The command can't go on; the message says what to do about it."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code
