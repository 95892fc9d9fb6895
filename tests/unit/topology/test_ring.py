from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.topology.ring import HashRing

weights = st.dictionaries(
    st.sampled_from([f"shard-{number}" for number in range(1, 9)]), st.floats(0.05, 2), min_size=2
)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(weights, names)
def test_every_shard_is_met_once(shards: dict[str, float], key: str) -> None:
    assert sorted(HashRing(shards).clockwise(key)) == sorted(shards)


@given(weights, names, st.data())
def test_a_shard_that_leaves_does_not_reorder_the_others(
    shards: dict[str, float], key: str, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(shards)))
    rest = {shard: weight for shard, weight in shards.items() if shard != gone}
    assert list(HashRing(rest).clockwise(key)) == [s for s in HashRing(shards).clockwise(key) if s != gone]


def test_shares_follow_the_weights() -> None:
    ring = HashRing({"small": 1.0, "large": 2.0})
    first = [next(ring.clockwise(f"b{number:04d}")) for number in range(3000)]
    assert first.count("large") / len(first) == pytest.approx(2 / 3, abs=0.06)


def test_order_does_not_depend_on_the_order_of_the_weights() -> None:
    one, other = HashRing({"a": 1.0, "b": 1.0}), HashRing({"b": 1.0, "a": 1.0})
    assert all(list(one.clockwise(str(n))) == list(other.clockwise(str(n))) for n in range(100))


@pytest.mark.parametrize("bad", [{}, {"a": 0.0}, {"a": -1.0}, {"a": float("nan")}, {"a": float("inf")}])
def test_unusable_weights_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="weights"):
        HashRing(bad)


def test_unusable_virtual_nodes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="virtual_nodes"):
        HashRing({"a": 1.0}, virtual_nodes=0)


def test_a_name_that_is_a_beginning_of_another_has_points_of_its_own() -> None:
    ring = HashRing({"shard-1": 1.0, "shard-1\0": 1.0, "shard-10": 1.0})
    first = [next(ring.clockwise(str(number))) for number in range(3000)]
    assert all(first.count(shard) > 600 for shard in set(first))
    assert len(set(first)) == 3


@given(weights, names, st.data())
def test_a_weight_that_grows_only_draws_keys_to_its_shard(
    shards: dict[str, float], key: str, data: st.DataObject
) -> None:
    grown = data.draw(st.sampled_from(sorted(shards)))
    before = next(HashRing(shards).clockwise(key))
    after = next(HashRing({**shards, grown: shards[grown] * 1.5}).clockwise(key))
    assert after in (before, grown)


def test_positions_are_the_same_everywhere() -> None:
    """Not those of one process: a decision can be made again elsewhere."""
    ring = HashRing({f"shard-{number}": 1.0 for number in range(5)})
    assert list(ring.clockwise("b0000")) == ["shard-2", "shard-3", "shard-1", "shard-4", "shard-0"]
