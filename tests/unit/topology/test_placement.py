from __future__ import annotations

import pytest

from foreshard.errors import InvalidInput, NotFound
from foreshard.topology.placement import Placement

PLACEMENT = Placement({"b0001": "shard-1", "b0000": "shard-1", "b0002": "shard-2"})


def test_answers_both_ways() -> None:
    assert PLACEMENT.shard_of("b0002") == "shard-2"
    assert PLACEMENT.buckets_on("shard-1") == ("b0000", "b0001")
    assert PLACEMENT.buckets_on("shard-4") == ()


def test_a_move_gives_a_new_placement() -> None:
    moved = PLACEMENT.moved(["b0000"], "shard-4")
    assert moved.buckets_on("shard-4") == ("b0000",)
    assert PLACEMENT.shard_of("b0000") == "shard-1"


def test_is_not_changed_through_the_mapping_it_was_made_from() -> None:
    source = {"b0000": "shard-1"}
    placement = Placement(source)
    source["b0000"] = "shard-2"
    assert placement.shard_of("b0000") == "shard-1"


def test_unknown_bucket() -> None:
    with pytest.raises(NotFound):
        PLACEMENT.shard_of("b9999")
    with pytest.raises(NotFound):
        PLACEMENT.moved(["b9999"], "shard-1")


@pytest.mark.parametrize("of", [{"": "shard-1"}, {"b0000": ""}])
def test_empty_names_are_refused(of: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="placement"):
        Placement(of)
