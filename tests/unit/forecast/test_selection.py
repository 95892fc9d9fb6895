from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast.band import QUANTILES
from foreshard.forecast.selection import COMBINATION, Selection, combined, losses, scores, select

ORIGINS, HORIZON, DAY = 10, 24, 24
AGE = np.arange(ORIGINS, 0, -1) * 17 / 24


def band(truth: np.ndarray, off: float, seed: int) -> np.ndarray:
    """Quantiles about the truth, off by noise of that size."""
    noise = np.random.default_rng(seed).normal(0, off, truth.shape)
    return (truth + noise)[..., None] + off * np.array([-1.6, -1.3, -0.7, 0.0, 0.7, 1.3, 1.6])


@pytest.fixture
def truth() -> np.ndarray:
    return 100 + np.random.default_rng(1).normal(0, 5, (ORIGINS, 3, HORIZON))


def run(
    predicted: dict[str, np.ndarray],
    truth: np.ndarray,
    before: list[str | None] | None = None,
    able: dict[str, np.ndarray] | None = None,
) -> Selection:
    series = truth.shape[1]
    return select(
        predicted,
        truth,
        AGE,
        DAY,
        "naive",
        before or [None] * series,
        able or {name: np.ones(series, bool) for name in predicted},
    )


def test_the_model_that_lost_least_is_champion(truth: np.ndarray) -> None:
    found = run({"naive": band(truth, 10, 1), "good": band(truth, 1, 2), "bad": band(truth, 30, 3)}, truth)
    assert found.champions == ("good",) * 3
    assert found.weights.tolist() == [[0.0] * 3, [1.0] * 3, [0.0] * 3]
    assert (found.scores["good"] < 0.2).all()
    assert (found.scores["bad"] > 2).all()
    assert found.scores["naive"] == pytest.approx(1.0)


def test_two_equally_good_models_are_better_together(truth: np.ndarray) -> None:
    """Their errors are independent: the mean's are smaller by the root of two."""
    found = run({"naive": band(truth, 10, 1), "one": band(truth, 4, 2), "other": band(truth, 4, 3)}, truth)
    assert found.champions == (COMBINATION,) * 3
    assert found.weights.sum(axis=0) == pytest.approx(1.0)
    assert found.weights[1:] == pytest.approx(0.5, abs=0.25)
    assert (found.scores[COMBINATION] < found.scores["one"]).all()


def test_what_loses_to_the_naive_has_no_part(truth: np.ndarray) -> None:
    found = run({"naive": band(truth, 5, 1), "bad": band(truth, 9, 2), "worse": band(truth, 12, 3)}, truth)
    assert found.champions == ("naive",) * 3


def test_a_champion_stays_unless_another_is_clearly_better(truth: np.ndarray) -> None:
    one = band(truth, 4, 2)
    nearly = one + 0.02 * (band(truth, 4, 2) - truth[..., None])  # two per cent more off
    predicted = {"naive": band(truth, 10, 1), "one": one, "nearly": nearly}
    assert run(predicted, truth, ["nearly"] * 3).champions == ("nearly",) * 3
    much = one + 0.3 * (one - truth[..., None])
    assert "much" not in run({**predicted, "much": much}, truth, ["much"] * 3).champions


def test_a_champion_that_loses_to_the_naive_goes_however_little_it_loses(truth: np.ndarray) -> None:
    naive = band(truth, 4, 2)
    little_worse = naive + 0.01 * (naive - truth[..., None])
    found = run({"naive": naive, "worse": little_worse}, truth, ["worse"] * 3)
    assert found.champions == ("naive",) * 3


def test_who_has_nothing_to_offer_now_is_not_chosen(truth: np.ndarray) -> None:
    able = {"naive": np.ones(3, bool), "good": np.array([True, False, True])}
    found = run({"naive": band(truth, 10, 1), "good": band(truth, 1, 2)}, truth, ["good"] * 3, able)
    assert found.champions == ("good", "naive", "good")


def test_without_a_past_the_naive_answers() -> None:
    nothing = np.full((0, 2, HORIZON), np.nan)
    predicted = {name: np.full((0, 2, HORIZON, 7), np.nan) for name in ("naive", "other")}
    found = select(
        predicted,
        nothing,
        np.zeros(0),
        DAY,
        "naive",
        [None, None],
        {name: np.ones(2, bool) for name in predicted},
    )
    assert found.champions == ("naive", "naive")


def test_all_are_judged_by_the_same_steps(truth: np.ndarray) -> None:
    """A model that was silent when it was hard is not better for it."""
    hard = truth.copy()
    hard[:3] += 200
    one, silent = band(truth, 4, 2), band(truth, 4, 2)
    silent[:3] = np.nan
    found = losses({"naive": band(truth, 10, 1), "one": one, "silent": silent}, hard, AGE, DAY)
    assert found.total[1] == pytest.approx(found.total[2])


def test_few_losses_of_one_series_are_drawn_to_those_of_all(truth: np.ndarray) -> None:
    predicted = {"naive": band(truth, 10, 1), "good": band(truth, 2, 2)}
    predicted["good"][:, 0] += 40
    known = truth.copy()
    known[1:, 0] = np.nan  # series 0 is known of for a day
    of_good = scores(losses(predicted, known, AGE, DAY), "naive")[1]
    of_long = scores(losses(predicted, truth, AGE, DAY), "naive")[1]
    assert of_good[0] < of_long[0]
    assert of_good[0] > of_good[1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), gaps=st.floats(0, 1))
def test_weights_add_up_whatever_is_missing(seed: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.gamma(1, 10, (4, 5, 6))
    truth[rng.random(truth.shape) < gaps] = np.nan
    predicted = {
        name: np.sort(rng.gamma(1, 10, (4, 5, 6, len(QUANTILES))), axis=-1)
        for name in ("naive", "a", "b", "c")
    }
    for name in ("a", "b"):
        predicted[name][rng.random((4, 5)) < gaps] = np.nan
    found = select(
        predicted,
        truth,
        np.arange(4, 0, -1.0),
        DAY,
        "naive",
        [None] * 5,
        {name: np.ones(5, bool) for name in predicted},
    )
    assert found.weights.sum(axis=0) == pytest.approx(1.0)
    assert (found.weights >= 0).all()


def test_a_combination_lies_between_its_models() -> None:
    low, high = np.full((2, 3, 7), 1.0), np.full((2, 3, 7), 3.0)
    mixed = combined([low, high], np.array([[0.25, 1.0], [0.75, 0.0]]))
    assert mixed[0] == pytest.approx(2.5)
    assert mixed[1] == pytest.approx(1.0)
    assert np.isnan(combined([low], np.array([[0.0, 1.0]]))[0]).all()
