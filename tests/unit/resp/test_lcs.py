"""Goal: LCS finds what the table of lengths finds, and Redis's choice among the longest.

Method: the table itself, walked back as Redis walks it, is the oracle.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrisdb.resp.lcs import Match, length_of, matches_of
from tests.support.resp_rig import Client


def _table(one: bytes, other: bytes) -> list[list[int]]:
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            if a == b:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    return table


def _oracle(one: bytes, other: bytes) -> tuple[int, list[Match]]:
    table = _table(one, other)
    i, j = len(one), len(other)
    cells: list[tuple[int, int]] = []
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            cells.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    matches: list[Match] = []
    for i, j in cells:
        if matches and matches[-1].first_start == i + 1 and matches[-1].second_start == j + 1:
            matches[-1] = Match(i, matches[-1].first_end, j, matches[-1].second_end)
        else:
            matches.append(Match(i, i, j, j))
    return table[-1][-1], matches


_FEW = st.text(alphabet="abc", max_size=40).map(str.encode)


@settings(max_examples=300)
@given(_FEW | st.binary(max_size=20), _FEW | st.binary(max_size=20))
def test_it_finds_what_the_table_finds(one: bytes, other: bytes) -> None:
    length, matches = _oracle(one, other)
    assert length_of(one, other) == length
    assert list(matches_of(one, other)) == matches


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ("", b"$6\r\nmytext\r\n"),
        ("LEN", b":6\r\n"),
        (
            "IDX",
            b"*4\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n"
            b"*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n",
        ),
        (
            "idx minmatchlen 4 withmatchlen",
            b"*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n"
            b"$3\r\nlen\r\n:6\r\n",
        ),
        ("IDX MINMATCHLEN x", b"-ERR value is not an integer or out of range\r\n"),
        ("MINMATCHLEN", b"-ERR syntax error\r\n"),
        (
            "LEN IDX",
            b"-ERR If you want both the length and indexes, please just use IDX.\r\n",
        ),
    ],
)
def test_options_are_those_of_redis(client: Client, options: str, reply: bytes) -> None:
    client.say("MSET a ohmytext b mynewtext")
    assert client.say(f"LCS a b {options}") == reply


def test_values_too_long_for_the_table_are_refused(client: Client) -> None:
    client.send("SET", "a", bytes(11_600))
    assert client.say("LCS a a LEN") == (
        b"-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n"
    )
