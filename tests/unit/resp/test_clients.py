"""Goal: CLIENT tells of connections, and closes them, as redis-server 7.0.15 does.

Method: several connections of one worker over a real database; expected texts are Redis's. What
several workers answer is the business of tests/process.
"""

from __future__ import annotations

import pytest

from ferrisdb.resp.service import KIND_TCP
from tests.support.resp_rig import Client, Rig

BAD_NAME = "-ERR Client names cannot contain spaces, newlines or special characters."
SYNTAX = "-ERR syntax error"
NO_ID = "-ERR client-id should be greater than 0"


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("", "-ERR wrong number of arguments for 'client' command"),
        ("NOPE", "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP."),
        ("TRACKING ON", "-ERR unknown subcommand 'TRACKING'. Try CLIENT HELP."),
        ("GETNAME", "$-1"),
        ("SETNAME", "-ERR wrong number of arguments for 'client|setname' command"),
        ("SETNAME \xff", BAD_NAME),
        ("SETNAME me", "+OK"),
        ("NO-EVICT", "-ERR wrong number of arguments for 'client|no-evict' command"),
        ("NO-EVICT ON", "+OK"),
        ("NO-EVICT maybe", SYNTAX),
        ("REPLY maybe", SYNTAX),
        ("LIST nope", SYNTAX),
        ("LIST TYPE", SYNTAX),
        ("LIST ID", SYNTAX),
        ("LIST ID x", "-ERR Invalid client ID"),
        ("LIST ID 12345", "$0\r\n"),
        ("LIST TYPE nope", "-ERR Unknown client type 'nope'"),
        ("LIST TYPE pubsub", "$0\r\n"),
        ("KILL", "-ERR wrong number of arguments for 'client|kill' command"),
        ("KILL 1.2.3.4:5", "-ERR No such client"),
        ("KILL ID x", NO_ID),
        ("KILL ID 0", NO_ID),
        ("KILL ID 12345", ":0"),
        ("KILL NOPE 1", SYNTAX),
        ("KILL ID 1 TYPE", SYNTAX),
        ("KILL TYPE nope", "-ERR Unknown client type 'nope'"),
        ("KILL TYPE replica", ":0"),
        ("KILL USER nobody", "-ERR No such user 'nobody'"),
        ("KILL ID 1 SKIPME maybe", SYNTAX),
        ("SETINFO lib-name a", "+OK"),
        ("SETINFO LIB-VER \x01", BAD_NAME.replace("Client names", "LIB-VER")),
        ("SETINFO nope a", "-ERR Unrecognized option 'nope'"),
    ],
)  # fmt: skip
def test_it_answers_as_redis_does(client: Client, words: str, reply: str) -> None:
    argv = [word.encode("latin-1") for word in words.split()]
    assert client.ask("CLIENT", *argv) == f"{reply}\r\n".encode()


def fields(line: bytes) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in line.decode().split())


def test_a_connection_shows_what_it_is(client: Client) -> None:
    client.send("CLIENT", "SETNAME", "me")
    client.send("CLIENT", "SETINFO", "LIB-NAME", "mylib")
    client.send("CLIENT", "NO-EVICT", "ON")
    client.send("FERRIS.DURABILITY", "SYNC")
    client.send("HELLO", "3")
    reply = client.send("CLIENT", "INFO") or b""
    assert reply.startswith(b"=") and reply.endswith(b"\n\r\n")
    shown = fields(reply.partition(b"txt:")[2])
    path = f"{client.db.attached.path}/ferris.sock:0"
    expected = {
        "name": "me", "lib-name": "mylib", "flags": "Ue", "multi": "-1", "cmd": "client|info",
        "user": "default", "resp": "3", "durability": "sync", "addr": path, "laddr": path,
        "db": "0", "id": str(client.session.id),
    }  # fmt: skip
    assert {name: shown[name] for name in expected} == expected


def test_within_exec_it_shows_that_too(client: Client) -> None:
    client.say("MULTI")
    client.say("CLIENT INFO")
    client.say("PING")
    shown = fields(client.ask("EXEC"))
    assert shown["multi"] == "2" and shown["flags"] == "xU"
    assert fields(client.send("CLIENT", "INFO") or b"")["multi"] == "-1"


def test_all_connections_are_listed(rig: Rig, client: Client) -> None:
    others = [rig.client() for _ in range(3)]
    others[1].say("CLIENT SETNAME second")
    listed = client.ask("CLIENT", "LIST").split(b"\n")
    ids = [fields(line)["id"] for line in listed if line.startswith(b"id=")]
    assert len(ids) == len(set(ids)) == 4 and ids == sorted(ids)
    wanted = str(others[1].session.id)
    shown = client.ask("CLIENT", "LIST", "ID", wanted, "12345", str(client.session.id))
    lines = [fields(line) for line in shown.split(b"\n") if b"id=" in line]
    assert [line["name"] for line in lines] == ["second", ""]


def test_connections_are_killed_by_what_they_are(rig: Rig, client: Client) -> None:
    others = [rig.client() for _ in range(3)]
    others[0].say("PING")
    assert client.ask("CLIENT", "KILL", "ID", str(others[0].session.id)) == b":1\r\n"
    assert rig.server.closed == [others[0].conn]
    path = f"{client.db.attached.path}/ferris.sock:0"
    assert client.ask("CLIENT", "KILL", "ADDR", "elsewhere:0") == b":0\r\n"
    assert client.ask("CLIENT", "KILL", "LADDR", path, "TYPE", "normal") == b":2\r\n"
    assert rig.server.connections() == [client.conn]


def test_one_that_kills_itself_is_answered_first(rig: Rig, client: Client) -> None:
    mine = str(client.session.id) if client.say("PING") else ""
    assert client.ask("CLIENT", "KILL", "ID", mine) == b":0\r\n"
    assert client.ask("CLIENT", "KILL", "ID", mine, "SKIPME", "NO") == b":1\r\n"
    # What was sent behind it is not executed.
    assert client.say("SET a 1") == b""
    rig.server.run_posted()
    assert rig.server.closed == [client.conn]
    assert not client.db.get(b"a")


def test_quit_is_answered_and_nothing_behind_it(rig: Rig, client: Client) -> None:
    assert client.say("QUIT now") == b"+OK\r\n"
    assert not rig.server.configured[client.conn]["fast"]
    assert client.say("PING") == b""
    rig.server.run_posted()
    assert rig.server.closed == [client.conn]


def test_reset_makes_a_connection_new(client: Client) -> None:
    for line in ("HELLO 3", "CLIENT SETNAME me", "FERRIS.DURABILITY sync", "WATCH a", "MULTI"):
        client.say(line)
    assert client.say("RESET") == b"+RESET\r\n"
    assert client.say("CLIENT GETNAME") == b"$-1\r\n"
    assert client.say("FERRIS.DURABILITY") == b"$2\r\nos\r\n"
    assert client.say("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert not client.session.watched


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("PING", "+PONG"),
        ("PING a", "$1\r\na"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
        ("ECHO a", "$1\r\na"),
        ("SELECT 0", "+OK"),
        ("SELECT 1", "-ERR DB index is out of range"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
        ("HELLO 1", "-NOPROTO unsupported protocol version"),
        ("HELLO 3 NOPE", "-ERR Syntax error in HELLO option 'NOPE'"),
        ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'"),
        ("HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'"),
        ("HELLO 3 SETNAME \xff", BAD_NAME),
    ],
)
def test_the_connection_answers_as_redis_does(client: Client, line: str, reply: str) -> None:
    argv = [word.encode("latin-1") for word in line.split()]
    assert client.ask(*argv) == f"{reply}\r\n".encode()


def test_hello_says_what_it_speaks(client: Client) -> None:
    reply = client.ask("HELLO")
    words = [b"*14", b"$6", b"server", b"$5", b"redis", b"$7", b"version", b"$6", b"7.0.15"]
    assert reply.startswith(b"\r\n".join([*words, b"$5", b"proto", b":2", b"$2", b"id", b""]))
    assert client.ask("HELLO", "3").startswith(b"%7\r\n")
    assert client.session.protocol == 3


def test_a_tcp_connection_is_no_unix_one(rig: Rig) -> None:
    stranger = rig.client(KIND_TCP)
    stranger.say("PING")
    shown = rig.client().ask("CLIENT", "LIST", "ID", str(stranger.session.id))
    assert fields(shown)["flags"] == "N" and fields(shown)["addr"] == "?:0"
