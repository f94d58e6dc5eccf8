"""The command that runs a service in the foreground."""

from __future__ import annotations

import click

from ferrisdb.cli import arguments
from ferrisdb.options import LOG_LEVELS, SOCKET_DURABILITIES


@click.command()
@arguments.new_directory
@click.option(
    "--memtable-bytes", metavar="SIZE", help="Size of a memtable in shared memory, such as 64MiB."
)
@click.option(
    "--idle-exit",
    type=float,
    metavar="SECONDS",
    help="Leave that long after the last client has gone; otherwise stay.",
)
@click.option(
    "--readers",
    type=int,
    metavar="N",
    help="Reader workers that serve sockets; otherwise one for each core. 0: no sockets.",
)
@click.option("--tcp-port", type=int, metavar="PORT", help="Serve TCP, too; needs users.toml.")
@click.option(
    "--socket-durability",
    type=click.Choice(SOCKET_DURABILITIES),
    help="Durability of writes by sockets that choose none.",
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), help="Least message to log.")
def serve(
    directory: str,
    memtable_bytes: str | None,
    idle_exit: float | None,
    readers: int | None,
    tcp_port: int | None,
    socket_durability: str | None,
    log_level: str | None,
) -> int:
    """Run the service for DIR in the foreground until SIGTERM or SIGINT.

    Makes DIR if it isn't there. Settings come from DIR/ferrisdb.toml; options beat them. Redis
    clients find it at DIR/ferris.sock. The log goes to standard error.
    """
    from ferrisdb.workers.serve import main

    return main(
        directory,
        {
            "memtable_bytes": memtable_bytes,
            "idle_exit_s": idle_exit,
            "reader_count": readers,
            "tcp_port": tcp_port,
            "socket_durability": socket_durability,
            "log_level": log_level,
        },
    )
