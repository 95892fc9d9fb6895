"""What can be known of the stress run without servers: its parts, its controls, its figures."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from tests.stress import broken_fence, bucket
from tests.stress.controls import CONTROLS
from tests.stress.flipper import percentiles
from tests.stress.parts import PARTS


@pytest.mark.parametrize(
    ("file", "safeguard"),
    [
        ("shard.sql", broken_fence.LOCK),
        ("shard.sql", broken_fence.READ_BOUND),
        ("flip.sql", broken_fence.SET_BOUND),
    ],
)
def test_the_safeguards_that_controls_take_away_are_where_they_look(file: str, safeguard: str) -> None:
    text = (files("foreshard.postgres") / "sql" / file).read_text(encoding="utf-8")
    assert re.search(safeguard, text), "the control has to follow the product"


def test_names_are_told_apart() -> None:
    for named in (PARTS, CONTROLS):
        names = [each.name for each in named]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


def test_hot_keys_are_spread_over_slots_and_buckets() -> None:
    keys = bucket.hot_keys()
    assert [bucket.slot_of(key) // 128 for key in keys] == list(range(8))
    assert sorted(map(bucket.bucket_of, keys)) == ["s0000"] * 4 + ["s0001"] * 4


def test_keys_of_different_use_never_meet() -> None:
    of_tokens = [key for name in bucket.BUCKETS for key in bucket.token_keys(name)]
    groups = [bucket.hot_keys(), bucket.many_keys(), bucket.fresh_keys(), bucket.family_keys(), of_tokens]
    together = [key for group in groups for key in group]
    assert len(set(together)) == len(together)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        ([4.0], {"max": 4.0}),
        ([float(n) for n in range(101)], {"p50": 50.0, "p99": 99.0, "max": 100.0}),
    ],
)
def test_percentiles(values: list[float], expected: dict[str, float]) -> None:
    assert percentiles(values) == expected
