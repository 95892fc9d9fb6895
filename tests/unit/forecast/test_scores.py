"""Scores against numbers worked out by hand, and against scikit-learn where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.scores import (
    absolute_error,
    brier,
    coverage,
    mase,
    pinball,
    points,
    precision_at_recall,
    relative,
    reliability,
    seasonal_error,
    weighted_pinball,
)


def _same(values: list[list[list[float]]]) -> Floats:
    """One value at all levels: (origins, series, horizon) -> (origins, series, horizon, 7)."""
    return np.repeat(np.asarray(values, float)[..., None], len(QUANTILES), axis=-1)


def test_pinball_weighs_misses_by_level() -> None:
    losses = pinball(_same([[[10.0, 10.0]]]), np.asarray([[[12.0, 8.0]]]))
    np.testing.assert_allclose(losses[0, 0, 0], [0.1, 0.2, 0.5, 1.0, 1.5, 1.8, 1.9])
    np.testing.assert_allclose(losses[0, 0, 1], [1.9, 1.8, 1.5, 1.0, 0.5, 0.2, 0.1])


def test_weighted_pinball_of_a_point_is_its_error_by_the_truth() -> None:
    # Errors 2 and 4 of a truth of 12 + 8; the levels are symmetric, so their mean weight is one half.
    assert weighted_pinball(_same([[[10.0, 12.0]]]), np.asarray([[[12.0, 8.0]]]))[0] == pytest.approx(6 / 20)


def test_weighted_pinball_skips_what_is_unknown_on_both_sides_of_the_ratio() -> None:
    predicted = _same([[[10.0, np.nan, 10.0]], [[10.0, 10.0, 10.0]]])
    truth = np.asarray([[[12.0, 500.0, np.nan]], [[10.0, 10.0, 8.0]]])
    assert weighted_pinball(predicted, truth)[0] == pytest.approx(4 / 40)


def test_weighted_pinball_of_zeros() -> None:
    truth = np.zeros((1, 2, 3))
    predicted = _same([[[0.0] * 3, [1.0] * 3]])
    assert weighted_pinball(predicted, truth).tolist() == [0.0, math.inf]
    assert np.isnan(weighted_pinball(predicted, np.full((1, 2, 3), np.nan))).all()


def test_mase_in_sample_and_out_of_sample() -> None:
    history = np.asarray([[1.0, 5.0, 2.0, 7.0, np.nan, 6.0]])
    assert seasonal_error(history, 2)[0] == pytest.approx((1 + 2 + 1) / 3)
    predicted, truth = _same([[[4.0, 4.0]]]), np.asarray([[[5.0, 7.0]]])
    assert mase(predicted, truth, seasonal_error(history, 2))[0] == pytest.approx(2 / (4 / 3))
    naive = _same([[[6.0, 2.0]]])
    assert mase(predicted, truth, absolute_error(naive, truth))[0] == pytest.approx(2 / 3)
    with pytest.raises(InvalidInput, match="season"):
        seasonal_error(history, 0)


def test_coverage_counts_edges_and_leaves_out_gaps() -> None:
    band = np.broadcast_to(np.arange(1.0, 8.0), (1, 1, 5, 7))
    truth = np.asarray([[[1.0, 7.0, 0.9, 7.1, np.nan]]])
    assert coverage(band, truth)[0] == 0.5
    assert coverage(band, truth, 0.25, 0.75)[0] == 0.0
    assert points(band, truth)[0] == 4
    with pytest.raises(InvalidInput, match="quantile"):
        coverage(band, truth, 0.2, 0.8)


def test_brier() -> None:
    told = np.asarray([[1.0, 0.5], [0.8, np.nan], [0.0, 0.5]])
    happened = np.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(brier(told, happened), [0.64 / 3, 0.25])


def test_reliability_bins() -> None:
    told = np.asarray([0.05, 0.15, 0.17, 0.95, 1.0, np.nan])
    table = reliability(told, np.asarray([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]))
    assert table.count.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    np.testing.assert_allclose(table.predicted[[0, 1, 9]], [0.05, 0.16, 0.975])
    np.testing.assert_allclose(table.observed[[0, 1, 9]], [0.0, 0.5, 1.0])
    assert np.isnan(table.observed[2])
    with pytest.raises(InvalidInput, match="bins"):
        reliability(told, told, 0)


def test_precision_at_recall_takes_the_best_threshold_that_finds_enough() -> None:
    told = np.asarray([0.9, 0.8, 0.7, 0.6, 0.5])
    happened = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0])
    assert precision_at_recall(told, happened, 0.3) == 1.0
    assert precision_at_recall(told, happened, 0.8) == 0.75
    # The same probability for all: everything is an alarm.
    assert precision_at_recall(np.full(5, 0.4), happened, 0.8) == 0.6
    assert math.isnan(precision_at_recall(told, np.zeros(5), 0.8))
    with pytest.raises(InvalidInput, match="recall"):
        precision_at_recall(told, happened, 0.0)


def test_relative_is_a_geometric_mean_without_the_references_zeros() -> None:
    found = relative(
        losses=np.asarray([1.0, 4.0, 0.0, 5.0, np.nan]),
        reference=np.asarray([2.0, 2.0, 0.0, 0.0, 1.0]),
        size=np.full(5, 10.0),
    )
    assert found.mean == pytest.approx(1.0)
    assert (found.series, found.left_out) == (2, 2)
    assert found.not_worse == 0.5


def test_relative_of_a_perfect_series_is_bounded() -> None:
    one = np.ones(1)
    assert relative(0 * one, one, one).mean == pytest.approx(0.01)
    assert math.isnan(relative(np.nan * one, one, one).mean)


def test_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(3)
    predicted = np.sort(rng.gamma(2.0, 10.0, (6, 1, 4, 7)), axis=-1)
    truth = rng.gamma(2.0, 10.0, (6, 1, 4))
    losses = pinball(predicted, truth)
    for column, level in enumerate(QUANTILES):
        expected = metrics.mean_pinball_loss(truth.ravel(), predicted[..., column].ravel(), alpha=level)
        assert losses[..., column].mean() == pytest.approx(expected)
    told = rng.integers(0, 20, 500) / 20
    happened = (rng.random(500) < told).astype(float)
    assert brier(told[:, None], happened[:, None])[0] == pytest.approx(
        metrics.brier_score_loss(happened, told)
    )
    precision, recall, _ = metrics.precision_recall_curve(happened, told)
    for wanted in (0.5, 0.8, 1.0):
        assert precision_at_recall(told, happened, wanted) == pytest.approx(precision[recall >= wanted].max())
