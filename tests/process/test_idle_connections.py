"""Goal: connections that say nothing cost next to nothing.

Method: 5,000 of them, and a few clients that work, whose latency is measured before and beside.
Where the limit on open files does not allow as many, there are fewer, and the bound shrinks with
them.
"""

from __future__ import annotations

from pathlib import Path

from tests.support import idle
from tests.support.socket_servers import running

CONNECTIONS = 5000
BYTES_MAX = 100 << 20
SECONDS = 1.0
MEDIAN_S_MAX = 0.005


def test_idle_connections_take_little_memory_and_no_time(tmp_path: Path) -> None:
    count = idle.descriptors_for(CONNECTIONS)
    with running(tmp_path, connection_count_max=CONNECTIONS + 100) as server:
        alone = idle.latencies_s(server.unix, 4, SECONDS)
        before = idle.private_bytes(server.processes())
        with idle.idle_connections(server.unix, count) as connections:
            beside = idle.latencies_s(server.unix, 4, SECONDS)
            grown = idle.private_bytes(server.processes()) - before
            medians = [found[len(found) // 2] for found in (alone, beside)]
            print(f"{count} connections: {grown} bytes; medians {medians} s, {len(beside)} calls")
            assert grown < BYTES_MAX * count // CONNECTIONS
            assert medians[1] < 2 * medians[0] + MEDIAN_S_MAX
            # They were idle, not dead.
            for connection in connections[:: count // 20]:
                connection.sendall(b"PING\r\n")
                if not server.unix.password:
                    assert connection.recv(100) == b"+PONG\r\n"
