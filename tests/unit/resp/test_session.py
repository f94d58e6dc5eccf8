"""Goal: a request is refused as Redis refuses it, and the kernel knows what it may do itself.

Method: sessions over a real database, without sockets; expected texts are redis-server 7.0.15's.
"""

from __future__ import annotations

import pytest

from ferrisdb.resp.call import Call
from ferrisdb.resp.command import COMMANDS, Command, CommandError, Deferred, control, data
from ferrisdb.resp.replies import OK, Failure, Reply
from ferrisdb.resp.session import ReplyMode, Session
from tests.support.resp_rig import Client, Rig

WAITING: list[Deferred] = []
BREAKS: list[bool] = []


class Nothing:
    """A user who may run GET alone."""

    name = "nothing"
    admin = False
    key_prefix = b""
    may_all = False

    def refusal(self, command: Command, argv: list[bytes]) -> bytes | None:
        del argv
        return None if command.name == b"get" else b"this user may not run it"


@pytest.fixture(autouse=True, scope="module")
def commands() -> None:
    """Declare commands of the test's own."""
    if b"test.box" in COMMANDS:
        return

    @control("test.box|fill", 3, "")
    def fill(session: Session, args: list[bytes]) -> Reply:
        session.name = args[0]
        return OK

    @control("test.later", 1, "")
    def later(session: Session, args: list[bytes]) -> Deferred:
        del session, args
        WAITING.append(Deferred())
        return WAITING[-1]

    @control("test.hidden", 1, "no_multi no_auth")
    def hidden(session: Session, args: list[bytes]) -> Reply:
        del args
        session.authenticated = True
        return OK

    @data("test.breaks", 2, "write")
    def breaks(call: Call) -> Reply:
        call.put(call.args[0], (call.get(call.args[0]) or b"") + b"x")
        if BREAKS:
            raise ZeroDivisionError
        return OK

    @control("test.refuses", 1, "")
    def refuses(session: Session, args: list[bytes]) -> Reply:
        del session, args
        raise CommandError("ERR not now")


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["foo"], b"unknown command 'foo', with args beginning with: "),
        (["FOO", "a", "b"], b"unknown command 'FOO', with args beginning with: 'a' 'b' "),
        (["x\r\ny\0z", "a\0b\n"], b"unknown command 'x  y', with args beginning with: 'a' "),
        (["f", "a" * 200, "b"], b"unknown command 'f', with args beginning with: '%b' " %
         (b"a" * 128)),
        (["f" * 200], b"unknown command '%b', with args beginning with: " % (b"f" * 128)),
        (["test.box"], b"wrong number of arguments for 'test.box' command"),
        (["TEST.box", "Fill"], b"wrong number of arguments for 'test.box|fill' command"),
        (["test.box", "empty"], b"unknown subcommand 'empty'. Try TEST.BOX HELP."),
        (["test.refuses"], b"not now"),
    ],
)  # fmt: skip
def test_a_request_is_refused(client: Client, words: list[str], reply: bytes) -> None:
    assert client.send(*words) == b"-ERR " + reply + b"\r\n"


def test_a_subcommand_is_found_in_any_case(client: Client) -> None:
    assert client.say("Test.Box FILL me") == b"+OK\r\n"
    assert client.session.name == b"me"


def test_authentication_comes_behind_the_number_of_words(client: Client) -> None:
    client.say("GET k")
    client.session.authenticated = False
    assert client.say("GET k") == b"-NOAUTH Authentication required.\r\n"
    assert client.say("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert client.say("test.hidden") == b"+OK\r\n"
    assert client.say("GET k") == b"$-1\r\n"


def test_a_user_is_asked(rig: Rig, client: Client) -> None:
    client.say("UNWATCH")
    assert rig.server.configured[client.conn]["fast"]
    client.session.user = Nothing()
    assert client.say("SET k v") == b"-NOPERM this user may not run it\r\n"
    assert client.say("GET k") == b"$-1\r\n"
    client.session.configure()
    assert not rig.server.configured[client.conn]["fast"]


def test_a_refused_exec_discards(client: Client) -> None:
    client.say("MULTI")
    assert client.say("EXEC x") == (
        b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec'"
        b" command\r\n"
    )
    assert client.say("EXEC") == b"-ERR EXEC without MULTI\r\n"


def test_the_kernel_may_not_act_within_multi(rig: Rig, client: Client) -> None:
    client.say("MULTI")
    assert not rig.server.configured[client.conn]["fast"]
    client.say("DISCARD")
    assert rig.server.configured[client.conn]["fast"]


# Deferred replies


def test_a_deferred_reply_comes_later(client: Client) -> None:
    assert client.say("test.later") is None
    assert client.later() == []
    WAITING.pop().resolve({b"k": 1})
    assert client.later() == [b"*2\r\n$1\r\nk\r\n:1\r\n"]


def test_a_closed_connection_is_answered_no_more(rig: Rig, client: Client) -> None:
    assert client.say("test.later") is None
    rig.service.closed(client.conn)
    WAITING.pop().resolve(OK)
    assert client.later() == []


def test_a_deferred_reply_within_exec_is_waited_for(client: Client) -> None:
    for line in ("MULTI", "INCR n", "test.later", "INCR n", "test.box fill x"):
        client.say(line)
    assert client.say("EXEC") is None
    assert client.say("GET n") == b"$-1\r\n"
    WAITING.pop().resolve(Failure(b"ERR no"))
    assert client.later() == [b"*4\r\n:1\r\n-ERR no\r\n:2\r\n+OK\r\n"]
    assert client.say("GET n") == b"$1\r\n2\r\n"
    assert not WAITING


# CLIENT REPLY


def test_replies_are_left_out(rig: Rig, client: Client) -> None:
    client.say("UNWATCH")
    client.session.reply_mode = ReplyMode.OFF
    assert client.say("SET k v") == b""
    client.session.reply_mode = ReplyMode.ON
    assert client.say("GET k") == b"$1\r\nv\r\n"


def test_one_reply_is_left_out(rig: Rig, client: Client) -> None:
    client.say("UNWATCH")
    client.session.reply_mode = ReplyMode.SKIP_NEXT
    assert client.say("SET k v") == b""  # stands for CLIENT REPLY SKIP itself
    assert not rig.server.configured[client.conn]["fast"]
    assert client.say("GET k") == b""
    assert rig.server.configured[client.conn]["fast"]
    assert client.say("GET k") == b"$1\r\nv\r\n"


# Faults of our own


def test_a_fault_is_reported_and_leaves_nothing_under_way(rig: Rig, client: Client) -> None:
    rig.server.is_held = True
    other = rig.client()
    assert other.say("test.breaks k") is None
    assert client.say("test.breaks k") is None
    BREAKS.append(True)
    try:
        with pytest.raises(ZeroDivisionError):
            rig.server.deliver()  # the second one conflicts and runs again
        with pytest.raises(ZeroDivisionError):
            client.say("test.breaks k")
    finally:
        BREAKS.clear()
    assert other.later() == [b"+OK\r\n"]
    assert client.later() == [b"-ERR internal error\r\n"]
    rig.server.is_held = False
    assert client.say("test.breaks k") == b"+OK\r\n"
    assert client.say("GET k") == b"$2\r\nxx\r\n"
    assert rig.service.turns.is_idle
