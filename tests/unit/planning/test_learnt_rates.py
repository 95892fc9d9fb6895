"""What migrations measured decides what the next one is expected to take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.planning.explain import explain
from foreshard.planning.learnt_rates import COPIES, RECENT, LearntRates, Pause, RateKind, Sample
from foreshard.planning.plan import MigrationPlan
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction, predict
from foreshard.planning.view import FleetView

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
POLICY = DecisionPolicy()

shards = st.sampled_from(["shard-1", "shard-2", "shard-3"])
samples = st.builds(
    Sample,
    source=shards,
    target=shards,
    kind=st.sampled_from(RateKind),
    bytes=st.integers(1, 10**13),
    seconds=st.floats(1e-3, 1e6),
    migration=st.integers(1, 20),
    at=st.integers(0, 3).map(lambda hours: NOW + timedelta(hours=hours)),  # several at the same time
)
learnt = st.lists(samples, max_size=20).map(lambda found: LearntRates(tuple(found)))


def sample(kind: RateKind, mb_per_s: float, migration: int = 1, pair: str = "12") -> Sample:
    return Sample(
        f"shard-{pair[0]}", f"shard-{pair[1]}", kind, int(mb_per_s * 1e8), 100.0, migration,
        NOW + timedelta(hours=migration),
    )  # fmt: skip


def pause(ms: float, migration: int, pair: str = "12") -> Pause:
    return Pause(
        f"shard-{pair[0]}", f"shard-{pair[1]}", ms / 1000, migration, NOW + timedelta(hours=migration)
    )


def expected(rates: LearntRates, size_bytes: int = 10**9) -> Prediction:
    return predict("shard-1", "shard-2", size_bytes, rates, POLICY)


@given(learnt, shards, shards, st.integers(0, 10**13), st.integers(0, 10**13))
def test_more_bytes_never_take_less_time(
    rates: LearntRates, source: str, target: str, one: int, other: int
) -> None:
    low, high = (predict(source, target, size, rates, POLICY) for size in sorted((one, other)))
    assert low.work_s <= high.work_s
    assert all(getattr(low, part) <= getattr(high, part) for part in ("copy_s", "index_s", "verify_s"))


@given(learnt, shards, shards)
def test_an_estimate_is_within_what_was_learnt_or_the_policys(
    rates: LearntRates, source: str, target: str
) -> None:
    for kinds, estimate, prior in (
        (COPIES, rates.copy_bytes_per_s(source, target, 7.0), 7.0),
        ({RateKind.VERIFY}, rates.verify_bytes_per_s(source, target, 7.0), 7.0),
        ({RateKind.INDEX}, rates.index_bytes_per_s(source, target), None),
    ):
        found = [one for one in rates.samples if one.kind in kinds]
        found = [one for one in found if (one.source, one.target) == (source, target)] or found
        if found:
            assert estimate is not None
            assert estimate.learnt
            speeds = [one.bytes_per_s for one in found]
            assert min(speeds) <= estimate.value <= max(speeds)
        else:
            assert (None if estimate is None else estimate.value) == prior


@given(learnt, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(rates: LearntRates, random: Random) -> None:
    shuffled = list(rates.samples)
    random.shuffle(shuffled)
    assert expected(LearntRates(tuple(shuffled))) == expected(rates)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0.0},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"bytes": 0},
        {"bytes": -5},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        replace(sample(RateKind.INDEX, 1.0), **wrong)  # type: ignore[arg-type]


def test_one_slow_day_does_not_change_the_rate_and_old_ones_are_forgotten() -> None:
    steady = [sample(RateKind.COPY_PIPE, 50.0, number) for number in range(1, 6)]
    slow = sample(RateKind.COPY_PIPE, 1.0, 6)
    assert expected(LearntRates((*steady, slow))).copy_s == pytest.approx(20)
    faster = [sample(RateKind.COPY_PIPE, 100.0, number) for number in range(7, 7 + RECENT)]
    assert expected(LearntRates((*steady, slow, *faster))).copy_s == pytest.approx(10)


def test_the_method_of_the_newest_copy_counts() -> None:
    before = [sample(RateKind.COPY_SUBSCRIPTION, 20.0, number) for number in (1, 2, 3)]
    rates = LearntRates((*before, sample(RateKind.COPY_PIPE, 100.0, 4)))
    assert expected(rates).rates[0] == "copy 100 MB/s (learnt from 1 migration shard-1 -> shard-2)"


def test_a_pair_that_nobody_measured_gets_the_fleets_rate_and_one_pair_has_one_vote() -> None:
    busy = [sample(RateKind.COPY_PIPE, 10.0, number, "34") for number in range(1, 5)]
    others = (sample(RateKind.COPY_PIPE, 40.0, 5, "13"), sample(RateKind.COPY_PIPE, 80.0, 6, "23"))
    prediction = expected(LearntRates((*busy, *others)))
    assert prediction.rates[0] == "copy 40 MB/s (learnt from 6 migrations of other pairs of shards)"
    assert "the policy's number" in prediction.rates[1]


def test_indexes_are_reckoned_beside_a_learnt_copy_and_are_in_the_policys() -> None:
    index = sample(RateKind.INDEX, 100.0)
    assert expected(LearntRates((index,))).index_s == 0
    both = expected(LearntRates((index, sample(RateKind.COPY_PIPE, 50.0))))
    assert (both.copy_s, both.index_s, both.backfill_s) == pytest.approx((20, 10, 30))


def test_the_pause_is_learnt_like_the_rates() -> None:
    assert expected(LearntRates()).pause_ms == pytest.approx(1000 * POLICY.expected_pause_s)
    pauses = [pause(ms, number) for number, ms in enumerate((900, 10, 30, 20, 40, 25), start=1)]
    here = expected(LearntRates(pauses=tuple(pauses)))
    assert here.pause_ms == pytest.approx(25)  # the oldest, a bad one, is forgotten
    assert here.rates[-1] == "write pause 25 ms (learnt from 5 migrations shard-1 -> shard-2)"
    elsewhere = expected(
        LearntRates(pauses=tuple(pause(ms, 1, pair) for ms, pair in ((80, "21"), (20, "13"))))
    )
    assert elsewhere.pause_ms == pytest.approx(50)
    assert elsewhere.rates[-1] == "write pause 50 ms (learnt from 1 migration of other pairs of shards)"
    with pytest.raises(InvalidInput, match="seconds"):
        pause(float("nan"), 1)


def test_a_plan_reckons_with_the_rates_of_its_pair_and_says_so(build: Callable[..., FleetView]) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0}, sizes=(10**9,))
    (before,) = decide(view, POLICY).plans
    rates = (sample(RateKind.COPY_PIPE, 2.0), sample(RateKind.VERIFY, 6.0))
    (plan,) = decide(replace(view, rates=LearntRates(rates)), POLICY).plans
    assert before.prediction is not None
    assert plan.prediction is not None
    assert plan.prediction.copy_s == pytest.approx(10 * before.prediction.copy_s)
    assert plan.prediction.verify_s == pytest.approx(10 * before.prediction.verify_s)
    assert plan.timeline.predicted_s == plan.prediction.total_s > before.timeline.predicted_s
    assert plan.cost.copy == pytest.approx(10 * before.cost.copy)
    assert plan.timeline.start_by < before.timeline.start_by
    assert "copy 2 MB/s (learnt from 1 migration shard-1 -> shard-2)" in explain(plan)
    assert "copy 20 MB/s (the policy's number, nothing is learnt yet)" in explain(before)
    assert MigrationPlan.from_json(plan.to_json()) == plan


def test_a_plan_stored_without_a_prediction_is_still_read(build: Callable[..., FleetView]) -> None:
    (plan,) = decide(build({"shard-1": 1.2, "shard-2": 0.0}), POLICY).plans
    stored = plan.to_json()
    del stored["prediction"]
    old = MigrationPlan.from_json(stored)
    assert old == replace(plan, prediction=None)
    assert "predicted duration" in explain(old)
    assert Prediction.read({"copy_s": 1}) is None
