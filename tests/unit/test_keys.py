"""Goal: key spaces don't overlap. Method: property, over prefixes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.keys import prefix_end


@given(prefix=st.one_of(st.binary(max_size=4), st.just(b"\xff\xff"), st.just(b"a\xff")))
def test_the_end_of_a_prefix_lies_behind_all_that_begin_with_it(prefix: bytes) -> None:
    end = prefix_end(prefix)
    assert (end is None) == (not prefix.strip(b"\xff"))
    if end is not None:
        assert prefix + b"\xff" * 8 < end
        assert not end.startswith(prefix)
