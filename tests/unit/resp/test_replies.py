"""Goal: every kind of reply has its bytes in both protocols. Method: a table."""

from __future__ import annotations

import pytest

from ferrisdb.resp.replies import (
    NULL_ARRAY,
    OK,
    Failure,
    Members,
    Push,
    Reply,
    Simple,
    Verbatim,
    encode,
)

TABLE: list[tuple[Reply, bytes, bytes]] = [
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (-(1 << 63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (0.1, b"$19\r\n0.10000000000000001\r\n", b",0.10000000000000001\r\n"),
    (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"a\r\n\0\xff", b"$5\r\na\r\n\0\xff\r\n", b"$5\r\na\r\n\0\xff\r\n"),
    (OK, b"+OK\r\n", b"+OK\r\n"),
    (Simple(b"QUEUED"), b"+QUEUED\r\n", b"+QUEUED\r\n"),
    (Failure(b"ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
    (Verbatim(b"a:1\r\n"), b"$5\r\na:1\r\n\r\n", b"=9\r\ntxt:a:1\r\n\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ([1, b"a", None], b"*3\r\n:1\r\n$1\r\na\r\n$-1\r\n", b"*3\r\n:1\r\n$1\r\na\r\n_\r\n"),
    ((True, [b"x"]), b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", b"*2\r\n#t\r\n*1\r\n$1\r\nx\r\n"),
    ({b"k": 1}, b"*2\r\n$1\r\nk\r\n:1\r\n", b"%1\r\n$1\r\nk\r\n:1\r\n"),
    ({}, b"*0\r\n", b"%0\r\n"),
    ([{b"k": {}}], b"*1\r\n*2\r\n$1\r\nk\r\n*0\r\n", b"*1\r\n%1\r\n$1\r\nk\r\n%0\r\n"),
    (Members([Simple(b"fast")]), b"*1\r\n+fast\r\n", b"~1\r\n+fast\r\n"),
    (Push([b"m", 1]), b"*2\r\n$1\r\nm\r\n:1\r\n", b">2\r\n$1\r\nm\r\n:1\r\n"),
]


@pytest.mark.parametrize(("reply", "two", "three"), TABLE, ids=lambda value: repr(value)[:30])
def test_a_reply_has_its_bytes_in_both_protocols(reply: Reply, two: bytes, three: bytes) -> None:
    assert encode(reply, 2) == two
    assert encode(reply, 3) == three
    # Also within another one.
    assert encode([reply], 2) == b"*1\r\n" + two
    assert encode([reply], 3) == b"*1\r\n" + three


def test_what_is_no_reply_is_refused() -> None:
    with pytest.raises(TypeError):
        encode("text", 2)
    with pytest.raises(TypeError):
        encode([object()], 3)
