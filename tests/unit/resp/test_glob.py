"""Goal: patterns match what redis-server 7.0.15 matches, and no pattern takes for ever.

Method: the cases are answers of a real redis-server (`KEYS pattern` over all the texts); the form
without regular expressions is compared with the compiled one on random patterns.
"""

from __future__ import annotations

import random

import pytest

from ferrisdb.resp.glob import _parts, _Walk, literal_prefix, matcher

TEXTS = [
    b"", b"a", b"b", b"ab", b"abc", b"a]", b"[", b"^", b"-", b"\\", b"A", b"\xff", b"a*", b"*",
    b"a\nb", b"]", b"a-c", b"^a",
]  # fmt: skip

CASES: list[tuple[bytes, list[bytes]]] = [
    (b"", [b""]),
    (b"**", [text for text in TEXTS if text]),
    (b"?", [b"a", b"b", b"[", b"^", b"-", b"\\", b"A", b"\xff", b"*", b"]"]),
    (b"a*", [b"a", b"ab", b"abc", b"a]", b"a*", b"a\nb", b"a-c"]),
    (b"*b", [b"b", b"ab", b"a\nb"]),
    (b"a?*", [b"ab", b"abc", b"a]", b"a*", b"a\nb", b"a-c"]),
    (b"[ab]", [b"a", b"b"]),
    (b"[^ab]", [b"[", b"^", b"-", b"\\", b"A", b"\xff", b"*", b"]"]),
    (b"[a-c]", [b"a", b"b"]),
    (b"[c-a]", [b"a", b"b"]),
    (b"[", []),
    (b"[^", [b"a", b"b", b"[", b"^", b"-", b"\\", b"A", b"\xff", b"*", b"]"]),
    (b"[a", [b"a"]),
    (b"[]a", []),
    (b"a[]]", []),
    (b"[\\]]", [b"]"]),
    (b"[\\^]", [b"^"]),
    (b"[a-", [b"a", b"-"]),
    (b"\\*", [b"*"]),
    (b"a\\*", [b"a*"]),
    (b"\\", [b"\\"]),
    (b"\\\\", [b"\\"]),
    (b"[a-\xff]", [b"a", b"[", b"^", b"-", b"\\", b"A", b"\xff", b"*", b"]"]),
    (b"a[^b]*", [b"a]", b"a*", b"a\nb", b"a-c"]),
]


@pytest.mark.parametrize(("pattern", "found"), CASES)
def test_it_matches_as_redis_does(pattern: bytes, found: list[bytes]) -> None:
    matches = matcher(pattern)
    assert [text for text in TEXTS if matches(text)] == found


def test_case_is_ignored_where_wanted() -> None:
    matches = matcher(b"Ma[X-z]*", ignore_case=True)
    assert matches(b"maxmemory") and matches(b"MAYBE")
    assert not matches(b"mabel") and not matcher(b"Max")(b"max")


def test_many_stars_cost_no_more_than_few() -> None:
    text = b"a" * 60_000
    assert not matcher(b"a*" * 500 + b"b")(text)
    assert matcher(b"*a" * 500)(text)
    assert not matcher(b"*" + b"[ab]*" * 200 + b"c*")(text)


def test_a_pattern_too_long_to_compile_matches_the_same() -> None:
    assert matcher(b"x" * 2000)(b"x" * 2000)
    assert matcher(b"x" * 2000 + b"*")(b"x" * 2001)
    assert not matcher(b"?" * 2000)(b"x" * 1999)


def test_both_forms_agree() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    marks = [bytes([byte]) for byte in b"abA*?[]^-\\\xff\x80\n\0"]
    texts = {b"".join(rng.choices(marks, k=rng.randint(0, 6))) for _ in range(300)}
    for _ in range(2000):
        pattern = b"".join(rng.choices(marks, k=rng.randint(1, 8)))
        compiled, walking = matcher(pattern), _Walk(_parts(pattern, False)).match
        prefix = literal_prefix(pattern)
        for text in texts:
            assert bool(compiled(text)) == walking(text), (pattern, text)
            assert text.startswith(prefix) or not compiled(text), (pattern, text)
