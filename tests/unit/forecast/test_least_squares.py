"""The fit is the best one without negative coefficients, however many of them would be negative."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from foreshard.forecast import least_squares
from foreshard.forecast.least_squares import LeastSquares


@pytest.mark.parametrize("exchanges", [10, 0], ids=["in blocks", "one by one"])
@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_least(seed: int, exchanges: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "EXCHANGES", exchanges)
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(80, 30)) @ rng.normal(size=(30, 30))  # alike, and of either sign
    y = columns @ np.maximum(rng.normal(size=30), 0) + rng.normal(size=80)
    fit = LeastSquares(columns, y, 1.0, 0.3, rng.uniform(0.1, 1, 80), 2.0)
    found = fit.solve()
    # The prior as observations of the coefficients themselves; the constant has none.
    root, pull = np.sqrt(fit.weights), np.sqrt(fit.noise) / fit.spread
    prior = np.hstack([np.zeros((30, 1)), pull * np.eye(30)])
    x = np.vstack([root[:, None] * np.column_stack([np.ones(80), columns]), prior])
    expected, _ = nnls(x, np.concatenate([root * y, np.full(30, pull)]))
    assert (found >= 0).all()
    assert (expected == 0).any()
    assert found == pytest.approx(expected, abs=1e-6)
