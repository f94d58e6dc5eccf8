"""The command `ferrisdb bench load`."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ferrisdb import limits
from ferrisdb.bench.load.assertions import Assertion, AssertionSyntaxError, parse_all
from ferrisdb.bench.load.plan import DISTRIBUTIONS, Plan
from ferrisdb.bench.load.target import Target, TargetError, parse_target
from ferrisdb.bench.units import parse_duration_ns
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode

if TYPE_CHECKING:
    from ferrisdb.bench.load.output import Output

PREFIX: Final = "ferrisdb-bench:"
CLIENTS_MAX: Final = 1024
KEYS_MAX: Final = 100_000_000
_PREFIX_SHAPE: Final = re.compile(r"[\x21-\x7e]{4,200}", re.ASCII)


def _seconds(context: click.Context, option: click.Parameter, text: str) -> float:
    """Return a duration's seconds."""
    try:
        return parse_duration_ns(text) / 1e9
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


def _assertions(
    context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> list[Assertion]:
    """Return what the texts assert."""
    try:
        return parse_all(texts)
    except AssertionSyntaxError as error:
        raise click.BadParameter(str(error), context, option) from None


@click.command(short_help="Load a running service, and judge it by thresholds.")
@click.argument("target", metavar="TARGET")
@click.option("--socket", "by_socket", is_flag=True, help="Use the directory's Unix socket.")
@click.option("--duration", callback=_seconds, metavar="DURATION", default="10s", show_default=True)
@click.option(
    "--warm-up",
    callback=_seconds,
    metavar="DURATION",
    default="1s",
    show_default=True,
    help="Before it; not counted.",
)
@click.option(
    "--clients", type=click.IntRange(1, CLIENTS_MAX), default=4, show_default=True,
    help="Processes, each attached or with a connection of its own.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="PER_SECOND",
    help="Open loop: operations begin on a schedule, all clients together. "
    "Otherwise a client's next operation follows its last.",
)  # fmt: skip
@click.option("--read-ratio", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option(
    "--distribution", type=click.Choice(DISTRIBUTIONS), default="zipfian", show_default=True
)
@click.option(
    "--theta", type=click.FloatRange(0.01, 0.999), default=0.99, show_default=True,
    help="Of the zipfian distribution.",
)  # fmt: skip
@click.option(
    "--keys", type=click.IntRange(1, KEYS_MAX), default=100_000, show_default=True,
    help="Written before the load begins.",
)  # fmt: skip
@click.option("--value-bytes", type=click.IntRange(32, 1 << 20), default=100, show_default=True)
@click.option(
    "--prefix", help=f"Of every key that is written. [default: {PREFIX} and a random number]"
)
@click.option(
    "--durability", type=click.Choice(["sync", "os"]),
    help="Of writes. [default: the service's; attached: sync]",
)  # fmt: skip
@click.option(
    "--timeout", callback=_seconds, metavar="DURATION", default="5s", show_default=True,
    help="Longest that an operation may take; one that is that late isn't begun.",
)  # fmt: skip
@click.option(
    "--verify-ratio", type=click.FloatRange(0, 1), default=1.0, show_default=True,
    help="Share of the values read that are compared with what they have to be.",
)  # fmt: skip
@click.option(
    "--assert", "assertions", callback=_assertions, multiple=True, metavar="ASSERTION",
    help="A threshold, such as 'p99<5ms', 'read.p99.9<2ms', 'errors<0.1%', 'rate>10000'; "
    "may be repeated.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results and report.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--ca-file", type=click.Path(exists=True), help="Who signed a rediss:// certificate.")
@click.option("--insecure", is_flag=True, help="Don't check a rediss:// certificate.")
@click.option("--keep", is_flag=True, help="Leave the keys there.")
@click.option("--clean-up", is_flag=True, help="Only delete the keys that a load has left.")
@click.option("--quiet", is_flag=True, help="No line for each second.")
def load(target: str, **options: Any) -> ExitCode:
    """Load the service at TARGET for a while, and show its latencies second by second.

    TARGET is the directory of a running service (clients attach to it, or use its Unix socket),
    a socket's path, redis://[USER[:PASSWORD]@]HOST[:PORT] or rediss://...; REDISCLI_AUTH may hold
    the password.

    The load writes keys of its own and deletes them in the end. It outlives the service's restarts
    and counts what failed meanwhile. It ends with 0 if every --assert held and every value that was
    read was right, with 86 if not, with 69 if the service was not there.
    """
    plan = _plan(target, options)
    if options["clean_up"]:
        from ferrisdb.bench.load.run import clean_up

        clean_up(plan)
        return ExitCode.OK
    return _run(plan, options)


def _plan(text: str, options: dict[str, Any]) -> Plan:
    context = click.get_current_context()
    try:
        target: Target = parse_target(
            text,
            by_socket=options["by_socket"],
            ca_file=options["ca_file"],
            checks_certificate=not options["insecure"],
        )
    except TargetError as error:
        raise click.UsageError(str(error), context) from None
    prefix = options["prefix"]
    if prefix is None:
        if options["clean_up"]:
            raise click.UsageError("--clean-up needs the --prefix of what was left", context)
        prefix = f"{PREFIX}{secrets.token_hex(4)}:"
    if _PREFIX_SHAPE.fullmatch(prefix) is None:
        raise click.UsageError(
            "a prefix is 4 to 200 ASCII characters without blanks: it marks what is deleted",
            context,
        )
    for name in ("duration", "timeout"):
        if not 0 < options[name] <= 30 * 86_400:
            raise click.UsageError(f"--{name} is above 0 and at most 720h", context)
    if options["clients"] > options["keys"]:
        raise click.UsageError("there are at least as many --keys as --clients", context)
    assert len(prefix) + 16 <= limits.KEY_BYTES_MAX
    return Plan(
        target=target,
        durability=options["durability"],
        timeout_s=options["timeout"],
        clients=options["clients"],
        warm_up_s=options["warm_up"],
        seconds=options["duration"],
        rate_per_s=options["rate"],
        read_ratio=options["read_ratio"],
        distribution=options["distribution"],
        theta=options["theta"],
        verify_ratio=options["verify_ratio"],
        key_count=options["keys"],
        value_bytes=options["value_bytes"],
        prefix=prefix.encode("ascii"),
        seed=options["seed"],
    )


def _run(plan: Plan, options: dict[str, Any]) -> ExitCode:
    # Imported here: help and usage errors must not pay for NumPy.
    from ferrisdb.bench.load.lines import summary, verdict_lines
    from ferrisdb.bench.load.run import Load

    output = _output(plan, options["out"])

    def say(line: str) -> None:
        if not options["quiet"]:
            click.echo(line, err=True)

    try:
        result = Load(plan, options["assertions"], say, output, keeps=options["keep"]).run()
    finally:
        if output is not None:
            output.close()
    for line in summary(result.total, result.seconds, plan):
        click.echo(line)
    for line in verdict_lines(result.verdicts):
        click.echo(line)
    if output is not None:
        from ferrisdb.bench import report

        click.echo(f"written: {report.write(output.folder)}")
    return result.code


def _output(plan: Plan, folder: Path | None) -> Output | None:
    if folder is None:
        return None
    from ferrisdb.bench.load.output import Output

    try:
        return Output(folder, plan)
    except OSError as error:
        raise CommandFailure(f"{folder}: {error.strerror}", ExitCode.STORAGE) from error
