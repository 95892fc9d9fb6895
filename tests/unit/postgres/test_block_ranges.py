"""Ranges of blocks: every row is in exactly one, wherever it stands."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from foreshard.postgres.block_ranges import Leaf, in_order, split


@given(blocks=st.integers(0, 200_000_000), toast=st.integers(0, 2**45), chunk_bytes=st.integers(2**13, 2**32))
def test_ranges_follow_on_each_other_from_the_first_block_to_beyond_the_last(
    blocks: int, toast: int, chunk_bytes: int
) -> None:
    if (blocks * 8192 + toast) // chunk_bytes > 20_000:
        chunk_bytes = 2**40
    parts = split(Leaf("b", "t", "b", "t", blocks, blocks * 8192 + toast), chunk_bytes)
    assert parts[0].first == 0
    assert parts[-1].end is None
    for one, following in pairwise(parts):
        assert one.end == following.first > one.first
    assert sum(part.bytes for part in parts) == blocks * 8192 + toast
    assert all(part.bytes >= 0 for part in parts)


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=20))
def test_the_largest_tables_are_begun_first_and_none_is_left_out(blocks: list[int]) -> None:
    leaves = [Leaf("b", f"t{n}", "b", f"t{n}", count, count * 8192) for n, count in enumerate(blocks)]
    ranges = in_order(leaves, 2**26)
    order = list(dict.fromkeys(part.leaf.bytes for part in ranges))
    assert order == sorted(order, reverse=True)
    assert {part.leaf.name for part in ranges} == {leaf.name for leaf in leaves}
