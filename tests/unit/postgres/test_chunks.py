"""Chunks and pieces: nothing is left out, nothing is counted twice, whatever the keys are."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from foreshard.postgres.chunks import (
    INT8_MAX,
    INT8_MIN,
    MAX_CHUNKS,
    MAX_PIECES,
    PIECE_BYTES,
    ROWS_PER_CHUNK,
    ByRange,
    batches,
    by_hash,
    by_range,
    grouped,
    pieces,
    wanted_chunks,
)

keys = st.one_of(
    st.integers(INT8_MIN, INT8_MAX), st.integers(-5, 5), st.sampled_from([INT8_MIN, INT8_MAX, -1, 0])
)
rows = st.integers(0, 1 << 40)


@given(rows, keys, keys)
def test_a_range_makes_no_more_chunks_than_wanted(count: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    shift = by_range(count, low, high).shift
    chunks = (high >> shift) - (low >> shift) + 1
    assert chunks <= max(2, wanted_chunks(count))
    if 0 < shift < 63:  # and no fewer than needed
        assert (high >> shift - 1) - (low >> shift - 1) + 1 > wanted_chunks(count)


@given(st.integers(0, 63), keys, keys)
def test_a_key_is_in_the_range_of_its_chunk_and_of_no_other(shift: int, key: int, other: int) -> None:
    by = ByRange(shift)
    low, high = by.range_of(key >> shift, key >> shift)
    assert INT8_MIN <= low <= key <= high <= INT8_MAX
    assert (low <= other <= high) == (other >> shift == key >> shift)


@given(st.integers(0, 63), st.lists(keys, min_size=1), keys)
def test_ranges_of_many_chunks_hold_their_keys_once(shift: int, some: list[int], other: int) -> None:
    chunks = [key >> shift for key in some]
    ranges = ByRange(shift).ranges_of(chunks)
    assert sum(low <= other <= high for low, high in ranges) == (other >> shift in set(chunks))
    assert all(high < low for (_, high), (low, _) in pairwise(ranges))


@given(rows)
def test_a_hash_makes_about_as_many_chunks_as_wanted(count: int) -> None:
    assert wanted_chunks(count) <= by_hash(count).mask + 1 < max(2, 2 * wanted_chunks(count))
    assert by_hash(count).mask < MAX_CHUNKS


def test_a_thousand_rows_a_chunk() -> None:
    assert [wanted_chunks(count) for count in (0, 1, 999, 1999, 2000)] == [1, 1, 1, 1, 2]
    assert wanted_chunks(ROWS_PER_CHUNK * MAX_CHUNKS * 10) == MAX_CHUNKS


@given(st.integers(0, 1 << 44), st.integers(0, 1 << 32), st.integers(0, 1 << 33))
def test_every_block_is_in_one_piece_those_too_that_come_later(size: int, blocks: int, block: int) -> None:
    assert len(pieces(size, blocks, 1)) == 1
    cut = pieces(size, blocks, 3)
    assert 1 <= len(cut) <= MAX_PIECES
    assert len(cut) <= max(1, size // PIECE_BYTES)
    inside = [
        piece
        for piece in cut
        if (piece.first is None or block >= piece.first) and (piece.end is None or block < piece.end)
    ]
    assert len(inside) == 1


@given(st.lists(st.integers(0, 100)), st.integers(1, 150))
def test_groups_keep_order_and_limit(sizes: list[int], limit: int) -> None:
    groups = list(grouped(sizes, limit))
    assert [index for group in groups for index in group] == list(range(len(sizes)))
    assert all(len(group) == 1 or sum(sizes[index] for index in group) <= limit for group in groups)


@given(st.dictionaries(keys, st.integers(0, 100)), st.integers(1, 150))
def test_batches_hold_every_chunk_once(counts: dict[int, int], limit: int) -> None:
    cut = list(batches(counts, limit))
    assert [chunk for batch in cut for chunk in batch] == sorted(counts)
    assert all(len(batch) == 1 or sum(counts[chunk] for chunk in batch) <= limit for batch in cut)
