from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec

import numpy as np
import pytest

import foreshard.forecast.models
from foreshard.errors import ConfigurationError, InvalidInput
from foreshard.forecast.models.lstm import FittedLstm, Lstm
from foreshard.forecast.panel import Panel

MakePanel = Callable[..., Panel]
MEDIAN = 3
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed (make lstm)")


@pytest.fixture(scope="module")
def panel(make_panel: MakePanel) -> Panel:
    """Four weeks of sixteen series of unlike size, busy from Monday to Friday."""
    rng = np.random.default_rng(1)
    hours = np.arange(24 * 28)
    size = 10.0 ** rng.uniform(-2, 5, (16, 1))
    phase = rng.uniform(0, 2 * np.pi, (16, 1))
    workdays = np.where(hours // 24 % 7 < 5, 1.0, 0.4)
    values = size * (1 + 0.5 * np.sin(2 * np.pi * hours / 24 + phase)) * workdays
    return make_panel(values * rng.lognormal(0, 0.05, values.shape))


@pytest.fixture(scope="module")
def fitted(panel: Panel) -> FittedLstm:
    """Knows all but the last weekend."""
    return Lstm(epochs=6, windows=2_500).fit(panel.until(24 * 26), 24, 1)


@needs_torch
def test_it_tells_the_weekend_from_the_week(panel: Panel, fitted: FittedLstm) -> None:
    truth = panel.values[:, 24 * 26 : 24 * 27]
    predicted = fitted.predict(panel.until(24 * 26), 24)[..., MEDIAN]
    relative = np.abs(predicted - truth).sum(axis=1) / truth.sum(axis=1)
    assert np.median(relative) < 0.25  # yesterday's values are off by 1.5


@needs_torch
def test_a_series_of_another_size_is_predicted_in_proportion(panel: Panel, fitted: FittedLstm) -> None:
    thousandfold = panel.with_values(panel.values * 1000)
    assert fitted.predict(thousandfold, 24) == pytest.approx(1000 * fitted.predict(panel, 24), rel=1e-3)


@needs_torch
def test_what_was_kept_predicts_alike(panel: Panel, fitted: FittedLstm) -> None:
    again = Lstm().restored(fitted.to_bytes())
    assert (again.step, again.horizon) == (fitted.step, fitted.horizon)
    assert np.array_equal(again.predict(panel, 24), fitted.predict(panel, 24))


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not an LSTM that was kept"):
        Lstm().restored(b"something else")


@needs_torch
def test_it_predicts_what_it_has_learnt_and_nothing_else(
    panel: Panel, fitted: FittedLstm, make_panel: MakePanel
) -> None:
    with pytest.raises(InvalidInput, match="25 steps; the network has learnt 24"):
        fitted.predict(panel, 25)
    with pytest.raises(InvalidInput, match="has learnt 1:00:00"):
        fitted.predict(make_panel(np.ones((1, 500)), step=timedelta(minutes=5)), 3)


@needs_torch
def test_too_short_a_history_is_refused(make_panel: MakePanel) -> None:
    with pytest.raises(InvalidInput, match="30 steps of 2 series hold no window of a day and 24 steps more"):
        Lstm().fit(make_panel(np.ones((2, 30))), 24, 1)


def test_without_torch_it_says_what_to_install(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "foreshard.forecast.models.lstm_network", raising=False)
    monkeypatch.delattr(foreshard.forecast.models, "lstm_network", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'foreshard\[lstm\]'"):
        Lstm().fit(panel, 24, 1)
