"""The command that manages who may come in by the sockets."""

from __future__ import annotations

import sys

import click

from ferrisdb.cli import arguments
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode


@click.group(short_help="Manage who may come in by the sockets: add, remove, list.")
@arguments.directory
@click.pass_context
def users(ctx: click.Context, directory: str) -> None:
    """Manage the users of DIR, kept in DIR/users.toml.

    Over TCP a client must AUTH as one of them; by the Unix socket the service's own user needs no
    password. A service that runs notices changes at the next AUTH, or by SIGHUP.
    """
    ctx.obj = directory


@users.command()
@click.argument("name")
@click.option("--read-only", is_flag=True, help="It may not write.")
@click.option(
    "--admin", is_flag=True, help="It may flush, configure, close connections and shut down."
)
@click.option("--key-prefix", default="", metavar="TEXT", help="It sees keys that begin so only.")
@click.option(
    "--no-password",
    is_flag=True,
    help="It can't AUTH: for `default`, which members of socket_group are without AUTH.",
)
@click.option("--replace", is_flag=True, help="In place of one of that name.")
@click.pass_obj
def add(
    directory: str,
    name: str,
    read_only: bool,
    admin: bool,
    key_prefix: str,
    no_password: bool,
    replace: bool,
) -> None:
    """Add a user; the password is asked for, or read from standard input: one line."""
    from ferrisdb.resp.passwords import hash_password
    from ferrisdb.resp.users import User, check_name, load_users, save_users
    from ferrisdb.seams import RealFileSystem, RealRng

    check_name(name)
    by_name = dict(load_users(directory).by_name)
    if name in by_name and not replace:
        raise CommandFailure(
            f"there is a user {name!r} already: remove it, or use --replace", ExitCode.USAGE
        )
    password = None if no_password else hash_password(_password(), RealRng())
    by_name[name] = User(name, password, read_only, admin, key_prefix.encode())
    save_users(directory, by_name, RealFileSystem())


def _password() -> bytes:
    """Return a password from the terminal, or from standard input: never from an argument."""
    if sys.stdin.isatty():
        text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return text.encode()
    return sys.stdin.buffer.readline().rstrip(b"\r\n")


@users.command()
@click.argument("name")
@click.pass_obj
def remove(directory: str, name: str) -> None:
    """Remove a user; its connections are closed once the service notices."""
    from ferrisdb.resp.users import load_users, save_users
    from ferrisdb.seams import RealFileSystem

    by_name = dict(load_users(directory).by_name)
    if by_name.pop(name, None) is None:
        raise CommandFailure(f"no user {name!r} in {directory}", ExitCode.ABSENT)
    save_users(directory, by_name, RealFileSystem())


@users.command(name="list")
@click.pass_obj
def list_(directory: str) -> None:
    """Print a line for each user: its name and what it may, never its password."""
    from ferrisdb.resp.users import load_users

    for name, user in sorted(load_users(directory).by_name.items()):
        words = [name]
        words += [flag for flag in ("read_only", "admin") if getattr(user, flag)]
        if user.key_prefix:
            words.append(f"key_prefix={user.key_prefix.decode()}")
        if user.password is None:
            words.append("no_password")
        click.echo(" ".join(words))
