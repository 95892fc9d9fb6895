"""What may be learnt from a stage, and what not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.migration.lifecycle import Stage
from foreshard.migration.measured import LEAST_BYTES, Measured, measured
from foreshard.planning.learnt_rates import RateKind

COPIED = {"method": "pipe", "copy_seconds": 20.0, "index_seconds": 5.0, "throttled_s": 0.0, "bytes": 7}
SIZE = 10**9


def test_each_stage_tells_its_rates() -> None:
    assert measured(Stage.BACKFILL, COPIED, SIZE) == [
        Measured(RateKind.COPY_PIPE, SIZE, 20.0),
        Measured(RateKind.INDEX, SIZE, 5.0),
    ]
    by_subscription = {**COPIED, "method": "subscription"}
    assert measured(Stage.BACKFILL, by_subscription, SIZE)[0].kind is RateKind.COPY_SUBSCRIPTION
    caught_up = {"caught_up_bytes": 300, "seconds": 2.0}
    assert measured(Stage.CATCH_UP, caught_up, SIZE) == [Measured(RateKind.CATCH_UP, 300, 2.0)]
    assert measured(Stage.VERIFY, {"seconds": 9}, SIZE) == [Measured(RateKind.VERIFY, SIZE, 9)]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"throttled_s": 3.0}, {RateKind.INDEX}),
        ({"throttled_s": 1.0}, {RateKind.INDEX, RateKind.COPY_PIPE}),
        ({"copy_seconds": 0}, {RateKind.INDEX}),
        ({"copy_seconds": float("nan")}, {RateKind.INDEX}),
        ({"copy_seconds": True}, {RateKind.INDEX}),
        ({"method": "by hand"}, {RateKind.INDEX}),
        ({"method": None, "index_seconds": -1.0}, set()),
    ],
)
def test_what_says_nothing_is_not_learnt(change: dict[str, Any], kinds: set[RateKind]) -> None:
    assert {one.kind for one in measured(Stage.BACKFILL, COPIED | change, SIZE)} == kinds


def test_small_copies_and_absent_numbers_teach_nothing() -> None:
    for size in (None, 0, LEAST_BYTES - 1):
        assert measured(Stage.BACKFILL, COPIED, size) == []
        assert measured(Stage.VERIFY, {"seconds": 9.0}, size) == []
    for stage in Stage:
        assert measured(stage, {}, SIZE) == []
    assert measured(Stage.SOAK, {"seconds": 9.0}, SIZE) == []


@given(
    st.sampled_from(Stage),
    st.dictionaries(
        st.sampled_from([*COPIED, "seconds", "caught_up_bytes"]),
        st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=3), st.just("pipe")),
    ),
    st.one_of(st.none(), st.integers(-(10**12), 10**12)),
)
def test_whatever_a_stage_says_what_is_learnt_is_a_rate(
    stage: Stage, detail: dict[str, Any], size: int | None
) -> None:
    for one in measured(stage, detail, size):
        assert one.bytes > 0
        assert 0 < one.seconds < float("inf")
