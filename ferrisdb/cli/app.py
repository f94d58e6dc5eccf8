"""Find the command that was asked for, run it, and turn what goes wrong into one line and a code.

A command lives in a module of its family and is imported when it is named: `ferrisdb get` must
not pay for what `ferrisdb serve` needs. No traceback reaches the user; a fault of our own says
so, and FERRISDB_TRACEBACK=1 shows it whole.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import click

from ferrisdb import __version__, errors, exit_codes
from ferrisdb.exit_codes import ExitCode

COMMANDS: dict[str, str] = {}
"""Where each command is: module and attribute."""

TRACEBACK_VARIABLE = "FERRISDB_TRACEBACK"


class _LazyGroup(click.Group):
    """A group that imports a command when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="ferrisdb %(version)s")
def group() -> None:
    """A transactional, ordered key-value database for many processes on one host."""


def run(arguments: Sequence[str] | None) -> int:
    """Run one command; whatever happens becomes an exit code."""
    if hasattr(signal, "SIGPIPE"):
        sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    try:
        code = group.main(args=arguments, prog_name="ferrisdb", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        _complain(error.format_message())
        return ExitCode.USAGE
    except BrokenPipeError:
        # Nobody reads any more; point the descriptor elsewhere, or the interpreter's last
        # flush complains about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except errors.Error as error:
        _show_traceback()
        _complain(str(error) or type(error).__name__)
        return exit_codes.for_error(error)
    except Exception as error:
        _show_traceback()
        _complain(
            f"internal fault, {type(error).__name__}: {error}; "
            f"please report it with what {TRACEBACK_VARIABLE}=1 shows"
        )
        return ExitCode.INTERNAL


def _complain(message: str) -> None:
    line = " ".join(message.split())
    click.echo(f"ferrisdb: error: {line}", err=True)


def _show_traceback() -> None:
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        traceback.print_exc()
