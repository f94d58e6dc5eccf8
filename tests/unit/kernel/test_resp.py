"""Goal: requests come out as they went in, however they are cut, and garbage is named as Redis
names it. Method: tables; random streams against a plain oracle, fed whole and in random pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.kernel.resp import RequestParser
from tests.support import resp_oracle
from tests.support.socket_server import request

BULK_MAX = 1000


def _fed(
    pieces: list[bytes], *, bulk_bytes_max: int = BULK_MAX, stranger: bool = False
) -> resp_oracle.Parsed:
    parser = RequestParser(bulk_bytes_max=bulk_bytes_max, stranger=stranger)
    requests: list[list[bytes]] = []
    for piece in pieces:
        requests += parser.feed(piece)
    return resp_oracle.Parsed(requests, parser.error, b"")


WELL_FORMED = [
    (b"", []),
    (b"PING\r\n", [[b"PING"]]),
    (b"PING\n", [[b"PING"]]),
    (b"\r\n\n  \r\nPING\r\n", [[b"PING"]]),
    (b"*1\r\n$4\r\nPING\r\n", [[b"PING"]]),
    (b"*0\r\n*-1\r\n*1\r\n$0\r\n\r\n", [[b""]]),
    (b"*2\r\n$1\r\n\r\r\n$2\r\n\r\n\r\n", [[b"\r", b"\r\n"]]),
    (b"*1\r\n$4\r\nPINGxy*1\r\n$1\r\na\r\n", [[b"PING"], [b"a"]]),
    (b"set k v\r\n*1\r\n$1\r\nx\r\nget k\r\n", [[b"set", b"k", b"v"], [b"x"], [b"get", b"k"]]),
    (b"set \"a b\" 'c d'\r\n", [[b"set", b"a b", b"c d"]]),
    (b"\"\\x41\\n\\r\\t\\b\\a\\q\\\"\" 'it\\'s \\n'\n", [[b'A\n\r\t\b\aq"', b"it's \\n"]]),
    (b'"\\x4" "\\xzz"\n', [[b"x4", b"xzz"]]),
    (b'a"b c"\n', [[b"ab c"]]),
    (b"a\0b c\n", [[b"a"]]),
    (b"\0\n", []),
    (b"a\vb \v c\n", [[b"a\vb", b"c"]]),
    (b"*1\r\n$0\r\n", []),
    (b"*2\r\n$4\r\nPING\r\n", []),
]

FAULTY = [
    (b"*x\r\n", b"invalid multibulk length"),
    (b"*\r\n", b"invalid multibulk length"),
    (b"*01\r\n", b"invalid multibulk length"),
    (b"* 1\r\n", b"invalid multibulk length"),
    (b"*+1\r\n", b"invalid multibulk length"),
    (b"*-0\r\n", b"invalid multibulk length"),
    (b"*2147483648\r\n", b"invalid multibulk length"),
    (b"*99999999999999999999999\r\n", b"invalid multibulk length"),
    (b"*1\r\n$x\r\n", b"invalid bulk length"),
    (b"*1\r\n$-1\r\n", b"invalid bulk length"),
    (b"*1\r\n$1001\r\n", b"invalid bulk length"),
    (b"*1\r\n$9223372036854775808\r\n", b"invalid bulk length"),
    (b"*1\r\n:1\r\n", b"expected '$', got ':'"),
    (b"*1\r\n\r\n", b"expected '$', got ' '"),
    (b"*1\r\n\n\r\n", b"expected '$', got ' '"),
    (b"*2\r\n$1\r\na\r\n$\0\r\n", b"invalid bulk length"),
    (b'set "a\r\n', b"unbalanced quotes in request"),
    (b'set "a"b\r\n', b"unbalanced quotes in request"),
    (b"set 'a\r\n", b"unbalanced quotes in request"),
    (b'set "a\0"\r\n', b"unbalanced quotes in request"),
    (b"a" * 65537, b"too big inline request"),
    (b"*" + b"1" * 65537, b"too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 65537, b"too big bulk count string"),
    (b"GET / HTTP/1.1\r\n", b""),
    (b"HEAD /x http/1.0\r\n", b""),
    (b"POST / HTTP/1.1\r\n", b""),
    (b"host: example.org\r\n", b""),
]


@pytest.mark.parametrize(("stream", "requests"), WELL_FORMED)
def test_requests_are_taken_apart(stream: bytes, requests: list[list[bytes]]) -> None:
    assert _fed([stream]) == (requests, None, b"")
    assert _fed([bytes([byte]) for byte in stream]) == (requests, None, b"")
    assert resp_oracle.parse(stream, BULK_MAX)[:2] == (requests, None)


@pytest.mark.parametrize(("stream", "text"), FAULTY)
def test_faults_are_named_as_redis_names_them(stream: bytes, text: bytes) -> None:
    error = b"-ERR Protocol error: " + text + b"\r\n" if text else b""
    assert _fed([b"PING\r\n" + stream]) == ([[b"PING"]], error, b"")
    assert resp_oracle.parse(stream, BULK_MAX)[:2] == ([], error)


def test_nothing_is_parsed_behind_a_fault() -> None:
    parser = RequestParser()
    assert parser.feed(b"*x\r\nPING\r\n") == []
    assert parser.feed(b"PING\r\n") == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([b"x"] * 11, b"unauthenticated multibulk length"),
        ([b"x" * 16385], b"unauthenticated bulk length"),
    ],
)
def test_a_stranger_may_send_little(args: list[bytes], text: bytes) -> None:
    stream = request(*args)
    limit = 1 << 20
    assert _fed([stream], stranger=True, bulk_bytes_max=limit).error == (
        b"-ERR Protocol error: " + text + b"\r\n"
    )
    assert _fed([stream], bulk_bytes_max=limit).requests == [args]
    fitting = [b"x" * 16384] * 10
    assert _fed([request(*fitting)], stranger=True, bulk_bytes_max=limit).requests == [fitting]


def test_a_request_of_many_arguments_is_not_parsed_again_and_again() -> None:
    parser = RequestParser()
    args = [b"x"] * 100_000
    stream = request(*args)
    found = [parser.feed(stream[at : at + 100]) for at in range(0, len(stream), 100)]
    assert found[-1] == [args]
    assert not any(found[:-1])
    assert parser.buffered_bytes == 0


def test_an_announced_length_costs_nothing() -> None:
    parser = RequestParser()
    assert parser.feed(b"*2147483647\r\n$536870912\r\n") == []
    assert parser.buffered_bytes < 100


BYTES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"\r\n", b"$", b"*", b"$5\r\n", b"*2\r\n", b'"', b"'", b"\\x4", b"\0", b"-1"]),
)
REQUESTS = st.lists(BYTES, min_size=1, max_size=30).map(lambda args: request(*args))
INLINE = st.lists(BYTES, max_size=6).map(lambda words: b" ".join(words) + b"\r\n")
STREAMS = st.lists(st.one_of(REQUESTS, REQUESTS, INLINE, BYTES), max_size=8).map(b"".join)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 400), max_size=8), stranger=st.booleans())
def test_any_cut_of_a_stream_parses_as_the_oracle_says(
    stream: bytes, cuts: list[int], stranger: bool
) -> None:
    expected = resp_oracle.parse(stream, BULK_MAX, stranger)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert _fed([stream], stranger=stranger)[:2] == expected[:2]
    found = _fed(pieces, stranger=stranger)
    if expected.error is None:
        assert found[:2] == expected[:2]
    else:
        # A line may be too long before its end is there.
        assert found.requests == expected.requests
        assert found.error is not None
