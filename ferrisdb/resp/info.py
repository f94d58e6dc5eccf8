"""INFO: what the service is and does, in Redis's sections and under its names.

A figure is there only if there is something to tell: clients, commands and bytes over all workers,
memory and processor time of the workers, keys. Section `ferrisdb` has what is FerrisDB's own;
FERRIS.STATS has more of that.

Counting keys takes time, so INFO counts them anew only if that costs a hundredth of the time
at most that has passed; DBSIZE always counts. How many of them expire is not counted.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import psutil

from ferrisdb import __version__
from ferrisdb.errors import Error
from ferrisdb.resp.arguments import option
from ferrisdb.resp.command import CommandError, Deferred, control
from ferrisdb.resp.connection import REDIS_VERSION
from ferrisdb.resp.figures import Figures
from ferrisdb.resp.replies import Reply, Verbatim

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service
    from ferrisdb.resp.session import Session

Row = tuple[str, Any]
Section = Callable[["Facts"], list[Row]]


class Facts:
    """What the sections are made of."""

    def __init__(self, service: Service, answers: list[Figures | None]) -> None:
        self.service = service
        self.workers = [one for one in answers if one is not None]
        self.now_us = service.clock.wall_us()
        #: None: not wanted.
        self.key_count: int | None = None

    def total(self, name: str) -> int:
        """Return a figure added up over all workers."""
        return sum(one.get(name, 0) for one in self.workers)

    @property
    def started_us(self) -> int:
        """When the oldest of the workers began."""
        return min((one["started_us"] for one in self.workers), default=self.now_us)


def _server(facts: Facts) -> list[Row]:
    service, control_page = facts.service, facts.service.attached.service.control
    uptime_s = max(0, facts.now_us - facts.started_us) // 10**6
    system = platform.uname()
    return [
        ("redis_version", REDIS_VERSION.decode()),
        ("redis_mode", "standalone"),
        ("ferrisdb_version", __version__),
        ("os", f"{system.system} {system.release} {system.machine}"),
        ("arch_bits", 64),
        ("multiplexing_api", "epoll"),
        ("process_id", control_page.coordinator_pid),
        ("run_id", _run_id(service)),
        ("tcp_port", service.options.tcp_port or 0),
        ("server_time_usec", facts.now_us),
        ("uptime_in_seconds", uptime_s),
        ("uptime_in_days", uptime_s // 86_400),
        ("executable", "ferrisdb"),
        ("config_file", ""),
        ("io_threads_active", 0),
    ]


def _run_id(service: Service) -> str:
    # Another one behind each restart of the service, as Redis's is.
    found = service.attached.service
    return f"{found.names.nonce:0>24}"[-24:] + f"{found.generation:016x}"


def _clients(facts: Facts) -> list[Row]:
    service = facts.service
    return [
        ("connected_clients", facts.total("connections_now")),
        ("cluster_connections", 0),
        ("maxclients", service.settings.connection_count_max * max(1, len(facts.workers))),
        ("blocked_clients", 0),
        ("tracking_clients", 0),
        ("clients_in_timeout_table", 0),
    ]


def _memory(facts: Facts) -> list[Row]:
    resident = facts.total("resident_bytes")
    memory = psutil.virtual_memory().total
    return [
        ("used_memory", resident),
        ("used_memory_human", _human(resident)),
        ("used_memory_rss", resident),
        ("used_memory_rss_human", _human(resident)),
        ("total_system_memory", memory),
        ("total_system_memory_human", _human(memory)),
        ("maxmemory", 0),
        ("maxmemory_human", "0B"),
        ("maxmemory_policy", "noeviction"),
        ("mem_fragmentation_ratio", "1.00"),
    ]


def _human(count: int) -> str:
    size = float(count)
    for unit in ("B", "K", "M", "G", "T"):
        if size < 1024 or unit == "T":
            break
        size /= 1024
    return f"{count}B" if unit == "B" else f"{size:.2f}{unit}"


def _persistence(facts: Facts) -> list[Row]:
    return [
        ("loading", 0),
        ("async_loading", 0),
        ("rdb_changes_since_last_save", 0),
        ("rdb_bgsave_in_progress", 0),
        ("rdb_last_save_time", facts.started_us // 10**6),
        ("rdb_last_bgsave_status", "ok"),
        ("aof_enabled", 1),
        ("aof_rewrite_in_progress", 0),
        ("aof_last_bgrewrite_status", "ok"),
        ("aof_last_write_status", "ok"),
    ]


def _stats(facts: Facts) -> list[Row]:
    return [
        ("total_connections_received", facts.total("connections_total")),
        ("total_commands_processed", facts.total("commands_total")),
        ("total_net_input_bytes", facts.total("bytes_in")),
        ("total_net_output_bytes", facts.total("bytes_out")),
        ("rejected_connections", facts.total("rejected_total")),
        ("expired_keys", 0),
        ("evicted_keys", 0),
        ("keyspace_hits", facts.total("hits")),
        ("keyspace_misses", facts.total("misses")),
        ("pubsub_channels", 0),
        ("pubsub_patterns", 0),
    ]


def _replication(facts: Facts) -> list[Row]:
    return [
        ("role", "master"),
        ("connected_slaves", 0),
        ("master_failover_state", "no-failover"),
        ("master_replid", _run_id(facts.service)),
        ("master_repl_offset", facts.service.attached.service.control.visible_seq),
    ]


def _cpu(facts: Facts) -> list[Row]:
    return [
        ("used_cpu_sys", f"{facts.total('system_us') / 1e6:.6f}"),
        ("used_cpu_user", f"{facts.total('user_us') / 1e6:.6f}"),
    ]


def _ferrisdb(facts: Facts) -> list[Row]:
    page = facts.service.attached.service.control
    return [
        ("ferrisdb_workers", len(facts.workers)),
        ("ferrisdb_worker_pids", ",".join(str(one["pid"]) for one in facts.workers)),
        ("ferrisdb_worker_number", facts.service.worker_number),
        ("ferrisdb_generation", page.generation),
        ("ferrisdb_epoch", page.epoch),
        ("ferrisdb_visible_seq", page.visible_seq),
        ("ferrisdb_memtable_bytes", page.memtable_bytes),
    ]


def _keyspace(facts: Facts) -> list[Row]:
    if not facts.key_count:
        return []
    return [("db0", f"keys={facts.key_count},expires=0,avg_ttl=0")]


def _nothing(facts: Facts) -> list[Row]:
    del facts
    return []


_SECTIONS: Final[dict[str, Section]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cpu": _cpu,
    "modules": _nothing,
    "commandstats": _nothing,
    "errorstats": _nothing,
    "latencystats": _nothing,
    "cluster": lambda facts: [("cluster_enabled", 0)],
    "ferrisdb": _ferrisdb,
    "keyspace": _keyspace,
}
_TITLES: Final = {"cpu": "CPU", "ferrisdb": "FerrisDB"}
_NOT_BY_DEFAULT: Final = frozenset(["commandstats", "latencystats"])


def _wanted(args: list[bytes]) -> list[str]:
    """Return the names of the sections that are asked for, in the order in which they come."""
    asked = {option(word).decode("latin-1") for word in args} or {"default"}
    if asked & {"all", "everything"}:
        return list(_SECTIONS)
    if "default" in asked:
        asked |= _SECTIONS.keys() - _NOT_BY_DEFAULT
    return [name for name in _SECTIONS if name in asked]


def _text(facts: Facts, names: list[str]) -> bytes:
    parts = []
    for name in names:
        lines = [f"# {_TITLES.get(name, name.capitalize())}\r\n"]
        lines += [f"{key}:{value}\r\n" for key, value in _SECTIONS[name](facts)]
        parts.append("".join(lines))
    return "\r\n".join(parts).encode()


@control("info", -1, "loading stale")
def info(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Return figures by sections."""
    names = _wanted(args)
    if not names:
        return Verbatim(b"")
    service = session.service
    answered = Deferred()

    def tell(answers: list[Figures | None]) -> None:
        facts = Facts(service, answers)

        def finish(count: Any) -> None:
            facts.key_count = count if isinstance(count, int) else None
            answered.resolve(Verbatim(_text(facts, names)))

        if "keyspace" not in names:
            finish(None)
            return
        try:
            count = service.key_count.ask(session)
        except (CommandError, Error):
            finish(None)  # the rest is told all the same
            return
        if isinstance(count, Deferred):
            count.then(finish)
        else:
            finish(count)

    service.peers.ask(("figures",)).then(tell)
    return answered
