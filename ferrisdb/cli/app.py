"""Find the command that was asked for, run it, and turn what goes wrong into one line and a code.

A command lives in a module of its family and is imported when it is named: `ferrisdb get` must
not pay for what `ferrisdb serve` needs. No traceback reaches the user; a fault of our own says
so, and FERRISDB_TRACEBACK=1 shows it whole.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from ferrisdb import __version__, errors, exit_codes
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.cli.lazy_group import LazyGroup
from ferrisdb.exit_codes import ExitCode

COMMANDS = {
    "serve": "ferrisdb.cli.serve:serve",
    "get": "ferrisdb.cli.point:get",
    "put": "ferrisdb.cli.point:put",
    "delete": "ferrisdb.cli.point:delete",
    "scan": "ferrisdb.cli.scan:scan",
    "import": "ferrisdb.cli.load:load",
    "export": "ferrisdb.cli.export:export",
    "keyspaces": "ferrisdb.cli.keyspaces:keyspaces",
    "users": "ferrisdb.cli.users:users",
    "stats": "ferrisdb.cli.stats:stats",
    "compact": "ferrisdb.cli.maintain:compact",
    "checkpoint": "ferrisdb.cli.maintain:checkpoint",
    "verify": "ferrisdb.cli.verify:verify",
    "dump": "ferrisdb.cli.dump:dump",
    "repair": "ferrisdb.cli.repair:repair",
    "bench": "ferrisdb.cli.bench:bench",
}
"""Where each command is: module and attribute, in the order that help shows."""

TRACEBACK_VARIABLE = "FERRISDB_TRACEBACK"


class _ReaderGone(Exception):
    """Whoever read our standard output has closed it."""


class _Application(LazyGroup):
    """The group of all commands."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        # click would end the process with 1 here, which for `get` means an absent key.
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error


@click.group(
    cls=_Application,
    places=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="ferrisdb %(version)s")
@click.pass_context
def group(ctx: click.Context) -> ExitCode:
    """A transactional, ordered key-value database for many processes on one host."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return ExitCode.USAGE
    return ExitCode.OK


def run(arguments: Sequence[str] | None) -> int:
    """Run one command; whatever happens becomes an exit code."""
    try:
        code = group.main(args=arguments, prog_name="ferrisdb", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except (_ReaderGone, BrokenPipeError):
        # Nobody reads any more; point the descriptor elsewhere, or the interpreter's last
        # flush complains about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        return _complain(_with_help(error), ExitCode.USAGE)
    except CommandFailure as error:
        return _complain(str(error), error.code)
    except errors.Error as error:
        _show_traceback()
        return _complain(str(error) or type(error).__name__, exit_codes.for_error(error))
    except Exception as error:
        _show_traceback()
        return _complain(
            f"internal fault, {type(error).__name__}: {error}; "
            f"please report it with what {TRACEBACK_VARIABLE}=1 shows",
            ExitCode.INTERNAL,
        )


def _with_help(error: click.ClickException) -> str:
    """Add where the right usage stands."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "ferrisdb"
    return f"{error.format_message().rstrip('.')} (see `{path} --help`)"


def _complain(message: str, code: ExitCode) -> int:
    line = " ".join(message.split())
    click.echo(f"ferrisdb: error: {line}", err=True)
    return code


def _show_traceback() -> None:
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        traceback.print_exc()
