from __future__ import annotations

from dataclasses import replace

import pytest

from foreshard.errors import InvalidInput
from foreshard.topology.bucketing import Bucketing, BucketingKind
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Intent, RoutingMap, route

DIRECTORY = Bucketing(BucketingKind.DIRECTORY, "host=h", "public.tenants", "id", "bucket")
FUNCTION = Bucketing(BucketingKind.CALLABLE, function="shop.sharding:bucket_of")
MAP = RoutingMap(1, KeyType.INT8, ("a", "b"), Placement({"a": "s1", "b": "s2"}))


@pytest.mark.parametrize("bucketing", [Bucketing(), DIRECTORY, FUNCTION])
def test_it_survives_the_control_database(bucketing: Bucketing) -> None:
    assert Bucketing.from_json(bucketing.to_json()) == bucketing


def test_a_fleet_that_was_described_before_there_was_a_choice_hashes() -> None:
    assert Bucketing.from_json({}) == Bucketing()


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        (
            "bucketing.dsn",
            {"kind": BucketingKind.DIRECTORY, "table": "t", "key_column": "k", "bucket_column": "b"},
        ),
        ("bucketing.function", {"kind": BucketingKind.CALLABLE}),
        ("bucketing.table", {"table": "t"}),
        ("bucketing.function", {"kind": BucketingKind.CALLABLE, "function": "shop.sharding"}),
        ("bucketing.function", {"kind": BucketingKind.CALLABLE, "function": "shop sharding:f"}),
    ],
)
def test_what_is_missing_or_of_another_kind_is_named(field: str, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        Bucketing(**wrong)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_map_does_not_hash_keys_that_are_found_otherwise() -> None:
    with pytest.raises(InvalidInput) as refused:
        route(replace(MAP, bucketing=BucketingKind.DIRECTORY), 7, Intent.READ)
    assert refused.value.field == "bucketing"


def test_a_key_goes_where_its_bucket_is() -> None:
    found = replace(MAP, bucketing=BucketingKind.CALLABLE)
    assert route(found, 7, Intent.WRITE, lambda _: "b").shard == "s2"
    with pytest.raises(InvalidInput, match="'c', which is not in the map"):
        route(found, 7, Intent.WRITE, lambda _: "c")
