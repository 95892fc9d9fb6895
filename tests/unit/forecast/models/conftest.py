from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.forecast.calendar import Event
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import SeriesKey

HOUR = timedelta(hours=1)
MONDAY = datetime(2025, 3, 3, tzinfo=UTC)

MakePanel = Callable[..., Panel]


@pytest.fixture(scope="session")
def make_panel() -> MakePanel:
    """``make_panel(values, step=, starts_at=, events=)``: buckets b0, b1, ... from a Monday on."""

    def make(
        values: np.ndarray,
        *,
        step: timedelta = HOUR,
        starts_at: datetime = MONDAY,
        events: Sequence[Event] = (),
    ) -> Panel:
        keys = tuple(SeriesKey(None, f"b{row}", "queries_per_s") for row in range(len(values)))
        return Panel(keys, np.asarray(values, np.float32), starts_at, step, events=tuple(events))

    return make


@pytest.fixture(scope="session")
def daily() -> Callable[..., np.ndarray]:
    """``daily(series, steps, day=, noise=, seed=)``: a sine a day about 100, phases differ, AR noise."""

    def make(series: int, steps: int, *, day: int = 24, noise: float = 0.1, seed: int = 3) -> np.ndarray:
        rng = np.random.default_rng(seed)
        phase = rng.uniform(0, 2 * np.pi, (series, 1))
        shocks = rng.normal(0, noise, (series, steps))
        carried = np.zeros(series)
        for step in range(steps):
            carried = shocks[:, step] = 0.5 * carried + shocks[:, step]
        curve: np.ndarray = (
            100 * (1 + 0.5 * np.sin(2 * np.pi * np.arange(steps) / day + phase)) * np.exp(shocks)
        )
        return curve

    return make
