"""Goal: nobody does anything before it has said who it is, and then what it may, and no more.

Method: connections of every kind over a real database and a real users.toml; expected texts are
redis-server 7.0.15's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb.options import Options
from ferrisdb.resp.identity import Peer, group_id, own_user, peer_of
from ferrisdb.resp.passwords import hash_password
from ferrisdb.resp.service import KIND_TCP
from ferrisdb.resp.users import User, save_users, users_path
from ferrisdb.seams import RealFileSystem, RealRng
from tests.support.resp_rig import Client, Rig

WRONG = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
NO_AUTH = b"-NOAUTH Authentication required.\r\n"
NO_COMMAND = b"-NOPERM this user has no permissions to run the '%b' command\r\n"
NO_KEY = b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"


def write_users(db: ferrisdb.Database, *users: User) -> None:
    save_users(db.attached.path, {user.name: user for user in users}, RealFileSystem())


def user(name: str, **rights: bool | bytes) -> User:
    held = hash_password(f"{name}'s".encode(), RealRng(), parameters=(2, 1, 1))
    return User(name, held, **rights)  # type: ignore[arg-type]


@pytest.fixture
def people(db: ferrisdb.Database) -> Iterator[None]:
    write_users(
        db,
        user("default"),
        user("root", admin=True),
        user("reader", read_only=True),
        user("a", key_prefix=b"a:"),
    )
    yield
    os.unlink(users_path(db.attached.path))


@pytest.fixture
def stranger(people: None, rig: Rig) -> Client:
    del people
    return rig.client(KIND_TCP)


def test_before_auth_little_is_answered(stranger: Client) -> None:
    assert stranger.say("PING") == NO_AUTH
    assert stranger.say("GET a") == NO_AUTH
    assert stranger.say("NOPE") == b"-ERR unknown command 'NOPE', with args beginning with: \r\n"
    assert stranger.say("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"
    hello = stranger.say("HELLO 3") or b""
    assert hello.startswith(b"-NOAUTH HELLO must be called with the client already authenticated,")
    assert stranger.say("RESET") == b"+RESET\r\n"
    assert stranger.say("PING") == NO_AUTH


def test_a_password_lets_in(rig: Rig, stranger: Client) -> None:
    assert stranger.ask("AUTH", "nope") == WRONG
    assert stranger.ask("AUTH", "nobody", "nope") == WRONG
    assert stranger.ask("AUTH", "a", "b", "c") == b"-ERR syntax error\r\n"
    assert not rig.server.configured[stranger.conn]["fast"]
    assert stranger.ask("AUTH", "default's") == b"+OK\r\n"
    assert rig.server.configured[stranger.conn]["fast"]
    assert stranger.say("PING") == b"+PONG\r\n"
    # Another one, which failed, changes nothing.
    assert stranger.ask("AUTH", "root", "nope") == WRONG
    assert stranger.say("FLUSHALL") == NO_COMMAND % b"flushall"
    assert stranger.ask("AUTH", "root", "root's") == b"+OK\r\n"
    assert stranger.say("FLUSHALL") == b"+OK\r\n"
    assert stranger.say("RESET") == b"+RESET\r\n"
    assert stranger.say("PING") == NO_AUTH


def test_hello_lets_in_too(stranger: Client) -> None:
    assert stranger.ask("HELLO", "3", "AUTH", "default", "nope") == WRONG
    assert stranger.say("PING") == NO_AUTH
    reply = stranger.ask("HELLO", "3", "SETNAME", "me", "AUTH", "reader", "reader's")
    assert reply.startswith(b"%7\r\n$6\r\nserver\r\n")
    assert stranger.say("CLIENT GETNAME") == b"$2\r\nme\r\n"
    assert stranger.say("SET a 1") == NO_COMMAND % b"set"
    # Who is let in stays in, whatever comes behind it.
    reply = stranger.ask("HELLO", "2", "AUTH", "a", "a's", "NOPE")
    assert reply == b"-ERR Syntax error in HELLO option 'NOPE'\r\n"
    assert stranger.session.user is not None and stranger.session.user.name == "a"
    assert stranger.session.protocol == 3


def test_what_was_verified_is_remembered(stranger: Client, rig: Rig) -> None:
    assert stranger.ask("AUTH", "a", "a's") == b"+OK\r\n"
    assert rig.client(KIND_TCP).say("AUTH a a's") == b"+OK\r\n"
    assert rig.client(KIND_TCP).say("AUTH a a") is None


def test_a_user_with_a_prefix_sees_its_keys_only(rig: Rig, stranger: Client) -> None:
    admin = rig.client()
    admin.say("MSET a:1 x a:2 y b:1 z a 0 a; 9")
    stranger.ask("AUTH", "a", "a's")
    assert not rig.server.configured[stranger.conn]["fast"]
    both = b"*2\r\n$3\r\na:1\r\n$3\r\na:2\r\n"
    assert stranger.say("GET b:1") == NO_KEY
    assert stranger.ask("KEYS", "*") == both
    assert stranger.ask("KEYS", "b*") == b"*0\r\n"
    assert stranger.ask("SCAN", "0") == b"*2\r\n$1\r\n0\r\n" + both
    assert stranger.ask("SCAN", "0", "MATCH", "a*2") == b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\na:2\r\n"
    assert stranger.ask("DBSIZE") == b":2\r\n"
    assert stranger.ask("RANDOMKEY") in (b"$3\r\na:1\r\n", b"$3\r\na:2\r\n")
    assert stranger.ask("FERRIS.RANGE", "-", "+", "KEYSONLY") == both
    assert b"db0:keys=2," in stranger.ask("INFO", "keyspace")
    assert stranger.ask("FERRIS.DELRANGE", "", "") == b"+OK\r\n"
    assert admin.ask("KEYS", "*") == b"*3\r\n$1\r\na\r\n$2\r\na;\r\n$3\r\nb:1\r\n"
    assert stranger.ask("RANDOMKEY") == b"$-1\r\n"


def test_within_multi_a_refusal_makes_exec_fail(stranger: Client) -> None:
    stranger.ask("AUTH", "a", "a's")
    stranger.say("MULTI")
    assert stranger.say("GET b:1") == NO_KEY
    reply = stranger.ask("EXEC")
    assert reply == b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def test_a_change_of_the_file_counts_from_the_next_auth_on(
    db: ferrisdb.Database, rig: Rig, stranger: Client
) -> None:
    other = rig.client(KIND_TCP)
    assert other.ask("AUTH", "a", "a's") == b"+OK\r\n"
    assert stranger.ask("AUTH", "reader", "reader's") == b"+OK\r\n"
    write_users(db, user("default"), user("reader"))
    assert rig.client(KIND_TCP).ask("AUTH", "default", "default's") == b"+OK\r\n"
    # One may write now, and the other one is gone.
    assert stranger.say("SET a 1") == b"+OK\r\n"
    assert other.conn in rig.server.closed
    (Path(db.attached.path) / "users.toml").write_text("[nonsense")
    assert rig.client(KIND_TCP).ask("AUTH", "default", "default's") == b"+OK\r\n"


def test_without_users_auth_says_so(client: Client) -> None:
    reply = client.ask("AUTH", "secret")
    assert reply.startswith(b"-ERR AUTH <password> called without any password configured for the")
    assert client.ask("AUTH", "nobody", "secret") == WRONG
    assert client.say("PING") == b"+PONG\r\n"


# Unix sockets


def test_the_peer_of_a_unix_socket_is_known() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours.fileno())
    assert peer is not None
    assert peer.uid == own_user() == os.geteuid()
    assert os.getegid() in peer.groups
    assert peer_of(-1) is None


COME_IN = """
import os, socket, sys
os.setgroups([int(word) for word in sys.argv[2:]])
os.setgid(65534)
os.setuid(65534)
end = socket.socket(socket.AF_UNIX)
end.connect("\\0" + sys.argv[1])
"""


def _came_in(listening: socket.socket, name: str, *gids: int) -> tuple[socket.socket, Peer | None]:
    """Have another user connect, a member of these groups."""
    words = [sys.executable, "-c", COME_IN, name, *map(str, gids)]
    subprocess.run(words, check=True, cwd="/")
    end, _ = listening.accept()
    return end, peer_of(end.fileno())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become others")
@pytest.mark.skipif(sys.platform != "linux", reason="needs a socket without a path")
def test_another_user_comes_in_by_the_group_only(db: ferrisdb.Database) -> None:
    group = "daemon"
    gid = group_id(group)
    assert gid is not None and group_id("no such group") is None and group_id(None) is None
    with socket.socket(socket.AF_UNIX) as listening:
        name = f"ferrisdb-test-{os.getpid()}"
        listening.bind("\0" + name)
        listening.listen()
        member, peer = _came_in(listening, name, gid)
        assert peer is not None and peer.uid == 65534 and gid in peer.groups
        outsider, peer = _came_in(listening, name)
        assert peer is not None and gid not in peer.groups
    with member, outsider:
        rig = Rig(db, Options(socket_group=group))
        assert rig.server.open(outsider.fileno(), 0) in rig.server.closed
        first = Client(rig, rig.server.open(member.fileno(), 0))
        assert first.say("PING") == NO_AUTH
        # The user `default` needs no AUTH there, for the group is what lets it in.
        write_users(db, User("default", key_prefix=b"d:"))
        second = Client(rig, rig.server.open(member.fileno(), 0))
        assert second.say("SET d:1 x") == b"+OK\r\n"
        assert second.say("SET e:1 x") == NO_KEY
        os.unlink(users_path(db.attached.path))
        rig.service.reload()
        assert second.conn in rig.server.closed
