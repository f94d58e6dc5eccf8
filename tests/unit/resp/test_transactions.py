"""Goal: MULTI, EXEC, WATCH as in Redis; conflicts are run again and never seen.

Method: several sessions over a real database. Where two have to be under way at once their commits
are held back and then made in order, as the coordinator makes them.
"""

from __future__ import annotations

import os
from pathlib import Path

from ferrisdb.resp.turns import IN_FLIGHT_MAX
from tests.support import databases
from tests.support.resp_rig import Client, Rig

NULL_ARRAY = b"*-1\r\n"


def _queue(client: Client, *lines: str) -> None:
    assert client.say("MULTI") == b"+OK\r\n"
    for line in lines:
        assert client.say(line) == b"+QUEUED\r\n", line


def test_exec_answers_with_all_replies(client: Client) -> None:
    _queue(client, "SET k v", "GET k", "APPEND k w", "GET k", "GET none")
    assert client.say("EXEC") == b"*5\r\n+OK\r\n$1\r\nv\r\n:2\r\n$2\r\nvw\r\n$-1\r\n"
    assert client.say("GET k") == b"$2\r\nvw\r\n"


def test_nothing_is_executed_before_exec_nor_behind_discard(rig: Rig, client: Client) -> None:
    _queue(client, "SET k v")
    assert rig.client().say("GET k") == b"$-1\r\n"
    assert client.say("DISCARD") == b"+OK\r\n"
    assert client.say("GET k") == b"$-1\r\n"


def test_words_out_of_place(client: Client) -> None:
    assert client.say("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert client.say("DISCARD") == b"-ERR DISCARD without MULTI\r\n"
    _queue(client)
    assert client.say("MULTI") == b"-ERR MULTI calls can not be nested\r\n"
    assert client.say("WATCH k") == b"-ERR WATCH inside MULTI is not allowed\r\n"
    assert client.say("UNWATCH") == b"+QUEUED\r\n"
    assert client.say("EXEC") == b"*1\r\n+OK\r\n"


def test_a_command_that_can_not_be_queued_aborts(client: Client) -> None:
    _queue(client, "SET k v")
    assert (client.say("GET") or b"").startswith(b"-ERR wrong number")
    assert client.say("EXEC") == (
        b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    )
    assert client.say("GET k") == b"$-1\r\n"


def test_a_command_that_fails_rolls_back_nothing_else(client: Client) -> None:
    _queue(client, "SET k v", "INCR k", "MSETNX a 1 k 1", "SET l w", "GET k")
    assert client.say("EXEC") == (
        b"*5\r\n+OK\r\n-ERR value is not an integer or out of range\r\n:0\r\n+OK\r\n$1\r\nv\r\n"
    )
    assert client.say("MGET k l a") == b"*3\r\n$1\r\nv\r\n$1\r\nw\r\n$-1\r\n"


def test_an_exec_without_writes_reads_one_moment(rig: Rig, client: Client) -> None:
    client.say("MSET a 1 b 1")
    _queue(client, "GET a", "GET b")
    rig.client().say("MSET a 2 b 2")
    assert client.say("EXEC") == b"*2\r\n$1\r\n2\r\n$1\r\n2\r\n"


# WATCH


def test_a_watched_key_that_changed_makes_exec_null(rig: Rig, client: Client) -> None:
    other = rig.client()
    client.say("SET k v")
    for change in ("SET k w", "SET k w", "APPEND k x", "GETDEL k", "SETNX k v", "GETEX k EX 100"):
        assert client.say("WATCH a k b") == b"+OK\r\n"
        other.say(change)
        _queue(client, "SET l done")
        assert client.say("EXEC") == NULL_ARRAY, change
    assert client.say("GET l") == b"$-1\r\n"


def test_null_is_its_own_in_resp3(rig: Rig, client: Client) -> None:
    client.say("WATCH k")
    client.session.protocol = 3
    rig.client().say("SET k v")
    _queue(client)
    assert client.say("EXEC") == b"_\r\n"


def test_a_change_and_back_is_a_change(rig: Rig, client: Client) -> None:
    client.say("SET k v")
    client.say("WATCH k none")
    rig.client().say("SET k w")
    rig.client().say("SET k v")
    _queue(client)
    assert client.say("EXEC") == NULL_ARRAY
    client.say("WATCH none")
    rig.client().say("SET none v")
    rig.client().say("GETDEL none")
    _queue(client)
    assert client.say("EXEC") == NULL_ARRAY


def test_own_changes_count_too(client: Client) -> None:
    client.say("WATCH k")
    client.say("SET k v")
    _queue(client, "GET k")
    assert client.say("EXEC") == NULL_ARRAY


def test_the_first_watch_of_a_key_counts(rig: Rig, client: Client) -> None:
    client.say("WATCH k")
    rig.client().say("SET k v")
    client.say("WATCH k")
    _queue(client)
    assert client.say("EXEC") == NULL_ARRAY


def test_what_is_watched_ends(rig: Rig, client: Client) -> None:
    other = rig.client()
    for end in (["UNWATCH"], ["MULTI", "DISCARD"], ["MULTI", "EXEC"]):
        client.say("WATCH k")
        for line in end:
            client.say(line)
        other.say("INCR k")
        _queue(client)
        assert client.say("EXEC") == b"*0\r\n"


def test_an_unchanged_watched_key_lets_exec_through(client: Client) -> None:
    client.send("SET", "k", b"v" * 1000)
    client.say("WATCH k none")
    client.say("SET other w")
    _queue(client, "APPEND k w")
    assert client.say("EXEC") == b"*1\r\n:1001\r\n"


def test_a_range_delete_changes_only_keys_that_were_there(rig: Rig, client: Client) -> None:
    client.say("WATCH none")
    rig.db.clear()
    _queue(client)
    assert client.say("EXEC") == b"*0\r\n"
    client.say("SET k v")
    client.say("WATCH k")
    rig.db.clear()
    _queue(client)
    assert client.say("EXEC") == NULL_ARRAY


def test_a_watched_key_that_changes_on_the_way_makes_exec_null(rig: Rig, client: Client) -> None:
    rig.server.is_held = True
    client.say("WATCH k")
    _queue(client, "SET l v")
    other = rig.client()
    assert other.say("SET k w") is None
    assert client.say("EXEC") is None
    rig.server.deliver()
    assert other.later() == [b"+OK\r\n"]
    assert client.later() == [NULL_ARRAY]
    assert client.say("GET l") == b"$-1\r\n"


# Conflicts


def test_a_conflict_is_run_again(rig: Rig) -> None:
    one, two = rig.client(), rig.client()
    rig.server.is_held = True
    assert one.say("INCR n") is None
    assert two.say("INCR n") is None
    assert one.later() == []
    assert rig.server.deliver() == 2
    assert one.later() == [b":1\r\n"]
    assert two.later() == []
    assert rig.server.deliver() == 1
    assert two.later() == [b":2\r\n"]


def test_a_write_that_read_nothing_never_conflicts(rig: Rig) -> None:
    clients = [rig.client() for _ in range(5)]
    rig.server.is_held = True
    for client in clients:
        assert client.say("SET k v EX 100") is None
    assert rig.server.deliver() == 5
    assert [client.later() for client in clients] == [[b"+OK\r\n"]] * 5


def test_an_exec_is_run_again_whole(rig: Rig) -> None:
    one, two = rig.client(), rig.client()
    one.say("MSET a 1 b 1")
    rig.server.is_held = True
    for client in (one, two):
        _queue(client, "INCR a", "APPEND b x", "STRLEN b")
        assert client.say("EXEC") is None
    while rig.server.deliver():
        pass
    assert one.later() == [b"*3\r\n:2\r\n:2\r\n:2\r\n"]
    assert two.later() == [b"*3\r\n:3\r\n:3\r\n:3\r\n"]


def test_many_on_one_key_take_turns(rig: Rig) -> None:
    count = 2 * IN_FLIGHT_MAX + 50
    clients = [rig.client() for _ in range(count)]
    rig.server.is_held = True
    for client in clients:
        assert client.say("APPEND k x") is None
    commits = 0
    while delivered := rig.server.deliver():
        assert delivered <= IN_FLIGHT_MAX
        commits += delivered
    replies = sorted(int(client.later()[0][1:-2]) for client in clients)
    assert replies == list(range(1, count + 1))
    # Once in vain for those that found others under way, and once for good.
    assert commits <= 2 * count


def test_those_in_line_who_write_nothing_end_at_once(rig: Rig) -> None:
    clients = [rig.client() for _ in range(2 * IN_FLIGHT_MAX)]
    rig.server.is_held = True
    for client in clients:
        assert client.say("SETNX k v") is None
    assert rig.server.deliver() == IN_FLIGHT_MAX
    assert [client.later() for client in clients] == [[b":1\r\n"]] + [[b":0\r\n"]] * (
        len(clients) - 1
    )
    assert rig.server.deliver() == 0


def test_who_waits_for_two_keys_leaves_the_first_line(rig: Rig) -> None:
    clients = [rig.client() for _ in range(6)]
    rig.server.is_held = True
    for at, client in enumerate(clients):
        _queue(client, *(("INCR a", "INCR b") if at % 2 else ("INCR b", "INCR a")))
        assert client.say("EXEC") is None
    outside = rig.client()
    for _ in range(3):
        # In between another one, so that they conflict on either key.
        outside.say("INCR b")
        rig.server.deliver()
    while rig.server.deliver():
        pass
    assert all(len(client.later()) == 1 for client in clients)
    rig.server.is_held = False
    assert rig.client().say("GET a") == b"$1\r\n6\r\n"


def test_it_is_run_again_where_the_history_is_gone(tmp_path: Path) -> None:
    databases.configure(tmp_path / "db", memtable_bytes="256KiB")
    with databases.opened(tmp_path / "db") as db:
        rig = Rig(db)
        client, watcher = rig.client(), rig.client()
        client.say("SET n 1")
        watcher.say("WATCH n")
        rig.server.is_held = True
        assert client.say("INCR n") is None
        for _ in range(2):
            db.keyspace("elsewhere").put(b"k", os.urandom(8))
            db.compact()
        assert rig.server.deliver() == 1
        assert client.later() == []
        _queue(watcher, "GET n")
        assert watcher.say("EXEC") == b"*1\r\n$1\r\n1\r\n"
        assert rig.server.deliver() == 1
        assert client.later() == [b":2\r\n"]


def test_a_commit_that_can_not_be_is_answered(tmp_path: Path) -> None:
    databases.configure(tmp_path / "db", memtable_bytes="256KiB")
    with databases.opened(tmp_path / "db") as db:
        client = Rig(db).client()
        reply = client.say("SETRANGE k 300000 x") or b""
        assert reply.startswith(b"-ERR the transaction's writes take more than")
        assert client.say("SET k v") == b"+OK\r\n"
