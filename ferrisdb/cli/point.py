"""Commands on single keys: get, put, delete."""

from __future__ import annotations

import sys

import click

from ferrisdb.cli import arguments
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode


@click.command()
@arguments.directory
@click.argument("key")
@arguments.escape
@arguments.keyspace
@arguments.service
def get(
    directory: str, key: str, escape: bool, keyspace: str, no_start: bool, timeout: float
) -> None:
    """Print the value of KEY as it is, and a newline.

    An absent key is reported on standard error, with exit code 1.
    """
    raw_key = arguments.to_bytes(key, escape)
    with arguments.open_keyspace(directory, keyspace, no_start, timeout) as db:
        value = db.get(raw_key)
    if value is None:
        raise CommandFailure(f"no key {key!r} in {directory}", ExitCode.ABSENT)
    out = sys.stdout.buffer
    out.write(value + b"\n")
    out.flush()


@click.command()
@arguments.new_directory
@click.argument("key")
@click.argument("value")
@click.option("--ttl", type=float, metavar="SECONDS", help="Let the key expire after that long.")
@arguments.durability
@arguments.escape
@arguments.keyspace
@arguments.service
def put(
    directory: str,
    key: str,
    value: str,
    ttl: float | None,
    durability: str,
    escape: bool,
    keyspace: str,
    no_start: bool,
    timeout: float,
) -> None:
    """Set KEY to VALUE.

    Write `--` before a key or value that begins with a dash.
    """
    raw_key = arguments.to_bytes(key, escape)
    raw_value = arguments.to_bytes(value, escape)
    with arguments.open_keyspace(directory, keyspace, no_start, timeout, create=True) as db:
        db.put(raw_key, raw_value, ttl=ttl, durability=durability)


@click.command()
@arguments.directory
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@arguments.durability
@arguments.escape
@arguments.keyspace
@arguments.service
def delete(
    directory: str,
    keys: tuple[str, ...],
    durability: str,
    escape: bool,
    keyspace: str,
    no_start: bool,
    timeout: float,
) -> None:
    """Delete every KEY, all of them or none; absent ones are no error."""
    raw_keys = [arguments.to_bytes(key, escape) for key in keys]
    with (
        arguments.open_keyspace(directory, keyspace, no_start, timeout) as db,
        db.write_batch(durability=durability) as batch,
    ):
        for key in raw_keys:
            batch.delete(key)
