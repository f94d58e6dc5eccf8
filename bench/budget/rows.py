"""The rows, in the order and the words of DESIGN.md 8, and what each asks for."""

from __future__ import annotations

from typing import Final

from ferrisdb.bench.budget import fills, processes, reads, sockets, starts, starved, writers, writes
from ferrisdb.bench.budget.figures import Asked, Row

ROWS: Final = (
    Row(
        "get",
        "random get, attached, fully compacted",
        (Asked("get", 2.5, ("lmdb",)), Asked("get", 10, ("rocksdict",))),
        reads.get,
    ),
    Row(
        "get-tables",
        "the same with 6 more tables and memtables that miss",
        (Asked("get", 2, ("lmdb",)),),
        reads.get_tables,
    ),
    Row(
        "missing",
        "missing get",
        (Asked("compacted", 4, ("lmdb",)),),
        reads.missing,
    ),
    Row(
        "multi-get",
        "multi_get of 100",
        (Asked("compacted", 6, ("lmdb",)), Asked("6 more tables", 3, ("lmdb",))),
        reads.multi_get,
    ),
    Row("scan", "full scan, rows to Python", (Asked("scan", 1.5, ("lmdb",)),), reads.scan),
    Row("range", "range of 50", (Asked("range", 2, ("lmdb",)),), reads.ranges),
    Row(
        "fill",
        'random fill, batches of 1,000, "os": to the last acknowledgement, and to no debt',
        (
            Asked("acknowledged", 1.5, ("rocksdict", "plyvel")),
            Asked("no debt", 1.5, ("rocksdict", "plyvel")),
        ),
        fills.fill,
    ),
    Row(
        "put-os",
        'single put, "os", visible to all processes',
        (Asked("put", 0.9, ("rocksdict",)),),
        writes.put_os,
    ),
    Row(
        "put-sync",
        'single put, "sync", 1 process',
        (Asked("put", 0.9, ("plyvel",)),),
        writes.put_sync,
    ),
    Row(
        "put-sync-8",
        'put, "sync", 8 processes',
        (Asked("put", 4, ("sqlite3", "lmdb")),),
        writers.writers,
    ),
    Row(
        "readers",
        "reads from N processes, scaling",
        (Asked("scaling to 2", 1, ("lmdb",)), Asked("scaling to 4", 1, ("lmdb",))),
        processes.readers,
    ),
    Row(
        "starved",
        "random get, data 4 times the memory allowed",
        (Asked("get", 1, starved.PEERS),),
        starved.starved,
    ),
    Row(
        "sockets",
        'redis-benchmark GET and SET, 50 clients, beside redis everysec, ours "os"',
        (
            *(
                Asked(part, 1.1 if part.endswith(" 1") else 1.5, ("redis",))
                for part in sockets.PARTS
            ),
            *(Asked(f"{part}, CPU", 1, ("redis",)) for part in sockets.PARTS),
        ),
        sockets.redis_benchmark,
    ),
    Row(
        "starts",
        "attach to a running service / clean start / start after SIGKILL with full logs",
        tuple(
            Asked(f"{what}, {size}", most=most)
            for what, most in zip(starts.WHAT, (20, 500, 3000), strict=True)
            for size in starts.SIZES
        ),
        starts.starts,
    ),
)
