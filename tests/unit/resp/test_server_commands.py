"""Goal: INFO, CONFIG, COMMAND and what else tells of the service answer in Redis's form.

Method: one worker over a real database; what COMMAND says of commands is compared with a table of
redis-server 7.0.15's own answers.
"""

from __future__ import annotations

import json

import pytest

import ferrisdb
from ferrisdb.kernel import layout
from ferrisdb.options import Options
from ferrisdb.resp.command import COMMANDS, Deferred
from ferrisdb.resp.command_table import FACTS
from tests.support.resp_rig import Client, Rig

DENIED = "-ERR DEBUG command not allowed. If the enable-debug-command option is set to "
SYNTAX = "-ERR syntax error"
INTEGER = "-ERR value is not an integer or out of range"


def failed(name: str, why: str) -> str:
    return f"-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("GET nope", "*0"),
        ("GET save appendonly", "*4\r\n$4\r\nsave\r\n$0\r\n\r\n$10\r\nappendonly\r\n$3\r\nyes"),
        ("GET TimeOut", "*2\r\n$7\r\nTimeOut\r\n$1\r\n0"),
        ("GET TIME[oO]ut", "*2\r\n$7\r\ntimeout\r\n$1\r\n0"),
        ("SET nope 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'"),
        ("SET timeout", "-ERR wrong number of arguments for 'config|set' command"),
        ("SET timeout 1 maxclients", SYNTAX),
        ("SET databases 2", failed("databases", "can't set immutable config")),
        ("SET timeout 1 TIMEOUT 2", failed("timeout", "duplicate parameter")),
        ("SET timeout x", failed("timeout", "argument couldn't be parsed into an integer")),
        ("SET timeout -1", failed("timeout", "argument must be between 0 and 31536000 inclusive")),
        ("SET proto-max-bulk-len x",
         failed("proto-max-bulk-len", "argument must be a memory value")),
        ("SET appendfsync no",
         failed("appendfsync", "argument(s) must be one of the following: always, everysec")),
        ("SET client-output-buffer-limit x",
         failed("client-output-buffer-limit",
                "Wrong number of arguments in buffer limit configuration.")),
        ("NOPE", "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP."),
        ("RESETSTAT", "+OK"),
    ],
)  # fmt: skip
def test_config_answers_as_redis_does(client: Client, words: str, reply: str) -> None:
    assert client.ask("CONFIG", *words.split()) == f"{reply}\r\n".encode()


def test_what_config_sets_is_in_force(rig: Rig, client: Client) -> None:
    words = ["timeout", "30", "maxclients", "77", "proto-max-bulk-len", "2mb"]
    words += ["client-output-buffer-limit", "normal 3mb 0 0", "appendfsync", "always"]
    assert client.ask("CONFIG", "SET", *words) == b"+OK\r\n"
    assert rig.server.limits["idle_ns"] == 30 * 10**9
    assert rig.server.limits["connection_count_max"] == 77
    assert rig.server.limits["request_bytes_max"] == 2 << 20
    assert rig.server.limits["output_bytes_max"] == 3 << 20
    assert rig.service.durability == layout.DURABILITY_SYNC
    assert rig.client().say("FERRIS.DURABILITY") == b"$4\r\nsync\r\n"
    shown = client.ask("CONFIG", "GET", "client-output-buffer-limit")
    assert b"normal 3145728 0 0 " in shown
    assert client.ask("CONFIG", "GET", "appendfsync").endswith(b"$6\r\nalways\r\n")


def test_nothing_is_set_if_something_can_not_be(rig: Rig, client: Client) -> None:
    assert client.ask("CONFIG", "SET", "timeout", "5", "maxclients", "0").startswith(b"-ERR")
    assert rig.service.settings.connection_idle_s == 0


def test_info_has_redis_sections(rig: Rig, client: Client) -> None:
    client.say("SET a 1")
    text = client.ask("INFO")
    sections = [line[2:] for line in text.split(b"\r\n") if line.startswith(b"# ")]
    assert sections == [
        b"Server", b"Clients", b"Memory", b"Persistence", b"Stats", b"Replication", b"CPU",
        b"Modules", b"Errorstats", b"Cluster", b"FerrisDB", b"Keyspace",
    ]  # fmt: skip
    found = dict(line.split(b":", 1) for line in text.split(b"\r\n") if b":" in line)
    assert found[b"redis_version"] == b"7.0.15" and found[b"role"] == b"master"
    assert found[b"connected_clients"] == b"1" and found[b"ferrisdb_workers"] == b"1"
    assert found[b"db0"] == b"keys=1,expires=0,avg_ttl=0"
    assert len(found[b"run_id"]) == 40
    assert client.ask("INFO", "nope") == b"$0\r\n\r\n"
    body = b"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"
    assert client.ask("INFO", "KEYSPACE", "nope") == b"$%d\r\n%b\r\n" % (len(body), body)
    client.say("HELLO 3")
    assert client.ask("INFO", "cluster") == b"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n"
    assert rig.server.connections() == [client.conn]


def test_resetstat_begins_counters_anew(rig: Rig, client: Client) -> None:
    rig.client()
    assert b"total_connections_received:2\r\n" in client.ask("INFO", "stats")
    client.ask("CONFIG", "RESETSTAT")
    assert b"total_connections_received:0\r\n" in client.ask("INFO", "stats")
    assert b"connected_clients:2\r\n" in client.ask("INFO", "clients")


# COMMAND


def test_every_command_is_known_to_the_table() -> None:
    names = {name for name in COMMANDS if not name.startswith(b"test.")}
    names |= {inner.name for name in names for inner in COMMANDS[name].subcommands.values()}
    assert names == set(FACTS)


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("COUNT x", "-ERR wrong number of arguments for 'command|count' command"),
        ("NOPE", "-ERR unknown subcommand 'NOPE'. Try COMMAND HELP."),
        ("INFO nope", "*1\r\n$-1"),
        ("INFO CLIENT|ID",
         "*1\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n*3\r\n+noscript\r\n+loading\r\n+stale\r\n:0\r\n:0"
         "\r\n:0\r\n*2\r\n+@slow\r\n+@connection\r\n*0\r\n*0\r\n*0"),
        ("DOCS nope", "*0"),
        ("LIST FILTERBY ACLCAT bitmap", "*4\r\n$8\r\nbitcount\r\n$6\r\nbitpos\r\n$6\r\ngetbit\r\n"
         "$6\r\nsetbit"),
        ("LIST FILTERBY PATTERN *EXPIREAT", "*2\r\n$8\r\nexpireat\r\n$9\r\npexpireat"),
        ("LIST FILTERBY MODULE x", "*0"),
        ("LIST FILTERBY NOPE x", SYNTAX),
        ("LIST nope", SYNTAX),
        ("GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb"),
        ("GETKEYS OBJECT ENCODING a", "*1\r\n$1\r\na"),
        ("GETKEYS NOPE a", "-ERR Invalid command specified"),
        ("GETKEYS CLIENT ID", "-ERR The command has no key arguments"),
        ("GETKEYS GET a b", "-ERR Invalid number of arguments specified for command"),
        ("GETKEYSANDFLAGS RENAME a b",
         "*2\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW"
         "\r\n+update"),
        ("GETKEYSANDFLAGS SET a b", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update"),
        ("GETKEYSANDFLAGS SET a b GET",
         "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update"),
    ],
)  # fmt: skip
def test_command_answers_as_redis_does(client: Client, words: str, reply: str) -> None:
    found = client.ask("COMMAND", *words.split())
    if words.startswith("LIST FILTERBY") and found.startswith(b"*"):
        parts = found.split(b"\r\n")[1:-1]
        pairs = sorted(zip(parts[1::2], parts[::2], strict=True))
        rest = [word for name, length in pairs for word in (length, name)]
        found = b"\r\n".join([b"*%d" % len(pairs), *rest, b""])
    assert found == f"{reply}\r\n".encode()


def test_all_of_command_can_be_told(client: Client) -> None:
    count = int(client.ask("COMMAND", "COUNT")[1:])
    assert client.ask("COMMAND").startswith(b"*%d\r\n" % count)
    assert client.ask("COMMAND", "INFO").startswith(b"*%d\r\n" % count)
    client.say("HELLO 3")
    docs = client.ask("COMMAND", "DOCS")
    assert docs.startswith(b"%%%d\r\n" % count)
    assert b"$7\r\nsummary\r\n$23\r\nReturn the key's value.\r\n" in docs
    for name in ("CLIENT", "COMMAND", "CONFIG", "MEMORY", "OBJECT"):
        assert client.ask(name, "HELP").startswith(b"*")


# The others


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("WAIT x 0", INTEGER),
        ("WAIT 0 x", "-ERR timeout is not an integer or out of range"),
        ("WAIT 0 -1", "-ERR timeout is negative"),
        ("WAIT 0 0", ":0"),
        ("WAITAOF 1 0 0", "*2\r\n:1\r\n:0"),
        ("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1"),
        ("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive"),
        ("SHUTDOWN nope", SYNTAX),
        ("SHUTDOWN SAVE NOSAVE", SYNTAX),
        ("SHUTDOWN ABORT NOW", SYNTAX),
        ("SHUTDOWN ABORT", "-ERR No shutdown in progress."),
        ("SHUTDOWN", "-ERR no service runs that could be shut down"),
    ],
)
def test_it_answers(client: Client, line: str, reply: str) -> None:
    assert client.ask(*line.split()) == f"{reply}\r\n".encode()


def test_the_time_is_the_clocks(rig: Rig, client: Client) -> None:
    before_us = rig.service.clock.wall_us()
    seconds, micros = client.ask("TIME").split(b"\r\n")[2::2][:2]
    assert before_us <= int(seconds) * 10**6 + int(micros) <= rig.service.clock.wall_us()
    assert int(client.ask("LASTSAVE")[1:]) == rig.service.started_us // 10**6


def test_wait_commits_by_sync(rig: Rig, client: Client) -> None:
    rig.server.is_held = True
    assert client.say("WAIT 0 0") is None
    assert rig.server.deliver() == 1
    assert client.later() == [b":0\r\n"]


def test_shutdown_is_answered_by_the_end(rig: Rig, client: Client) -> None:
    told = []

    class Peers:
        def ask(self, request: tuple[object, ...]) -> Deferred:
            raise NotImplementedError

        def tell(self, request: tuple[object, ...], *, key: str | None = None) -> None:
            raise NotImplementedError

        def shut_down(self) -> None:
            told.append(True)

    rig.service.peers = Peers()
    assert client.say("SHUTDOWN NOSAVE") is None
    assert told == [True]


def test_debug_has_to_be_allowed(db: ferrisdb.Database, client: Client) -> None:
    assert client.ask("DEBUG", "SLEEP", "1").startswith(DENIED.encode())
    client.say("MULTI")
    assert client.ask("DEBUG", "SLEEP", "1").startswith(DENIED.encode())
    assert client.ask("EXEC").startswith(b"-EXECABORT")
    allowed = Rig(db, Options(debug_commands=True)).client()
    assert allowed.ask("DEBUG", "SLEEP", "0.01") == b"+OK\r\n"
    assert allowed.ask("DEBUG", "SLEEP", "nan") == b"+OK\r\n"
    assert allowed.ask("DEBUG", "SLEEP", "soon") == b"+OK\r\n"
    assert allowed.ask("DEBUG", "HELP").startswith(b"*5\r\n+DEBUG <subcommand> ")
    unknown = (
        b"-ERR unknown subcommand or wrong number of arguments for 'nope'. Try DEBUG HELP.\r\n"
    )
    assert allowed.ask("DEBUG", "nope") == unknown


def test_stats_are_json(client: Client) -> None:
    reply = client.ask("FERRIS.STATS")
    stats = json.loads(reply.split(b"\r\n", 1)[1])
    assert stats["state"] == "running" and stats["path"] == client.db.attached.path
