"""What the stored forecast makes of the world: an event ahead, buckets that have moved, samples of its own future."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from flows.forecast import forecast
from foreshard.clock import FleetClock
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import TopologyStore
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.calendar import Event
from foreshard.forecast.result import ForecastResult
from foreshard.load.sample import Sample
from tests.flows.conftest import BUCKETS
from tests.flows.forecast_load import HOUR, RATE, put_load

Run = Callable[[], dict[str, ForecastResult]]

FIRST, SECOND = f"shard-1/{RATE}", f"shard-2/{RATE}"


@pytest.fixture
def run(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the flow and reads what it stored. Each run is at the same moment, and as if it were the first."""
    put_load(control, monkeypatch)
    now = FleetClock().now()
    monkeypatch.setattr(FleetClock, "now", lambda _: now)
    monkeypatch.setattr(ForecastStore, "before", lambda *_: {})

    def run() -> dict[str, ForecastResult]:
        return {str(key): one for key, one in ForecastStore(control).results(forecast()).items()}

    return run


def median(result: ForecastResult) -> Floats:
    return result.band.quantiles[:, QUANTILES.index(0.5)]


def test_a_declared_event_ahead_moves_the_band_by_its_factor(control: ControlDatabase, run: Run) -> None:
    ordinary = run()
    begin = ordinary[FIRST].band.ts[0].to_pydatetime()
    sale = Event(
        "sale", begin + 2 * HOUR, begin + 4.5 * HOUR, 3.0, frozenset({"shard-1"}), frozenset({"b0000"})
    )
    CalendarStore(control).add(sale)
    raised = run()
    factor = np.array([1.0, 1.0, 3.0, 3.0, 2.0, 1.0])  # an hour that is half covered gets half of the effect
    for key, before in ordinary.items():
        of = factor if key in (FIRST, f"b0000/{RATE}") else np.ones(6)
        np.testing.assert_allclose(raised[key].band.quantiles, before.band.quantiles * of[:, None], rtol=1e-5)
    assert ordinary[FIRST].peak.above(200.0) < 0.1
    assert raised[FIRST].peak.above(200.0) > 0.9


def test_after_a_migration_the_forecasts_are_those_of_the_new_placement(
    control: ControlDatabase, run: Run
) -> None:
    before = run()
    moved = TopologyStore(control).placement().moved(["b0000", "b0001"], "shard-2")
    TopologyStore(control).put_buckets(BUCKETS, moved)
    after = run()
    buckets = [before[f"{one}/{RATE}"] for one in BUCKETS]
    for one in buckets:  # they do what they did
        np.testing.assert_array_equal(after[str(one.key)].band.quantiles, one.band.quantiles)
    b0000, b0001, b0002, b0003 = (median(one) for one in buckets)
    assert median(before[FIRST]) == pytest.approx(b0000 + b0001 + b0002 + b0003, rel=0.05)
    assert median(before[SECOND]) == pytest.approx(0.0)
    assert median(after[FIRST]) == pytest.approx(b0002 + b0003, rel=0.05)  # of each step, the first included
    assert median(after[SECOND]) == pytest.approx(b0000 + b0001, rel=0.05)


def test_samples_of_the_future_change_nothing(control: ControlDatabase, run: Run) -> None:
    honest = run()
    begin = honest[FIRST].band.ts[0].to_pydatetime()
    minutes = [timedelta(minutes=5 * late) for late in range(1, 12 * 48)]
    poison = [Sample(begin + late, "shard-1", one, RATE, 1e6) for late in minutes for one in BUCKETS]
    for source in ("live", "history"):
        LoadStore(control).add(poison, source)
    poisoned = run()
    assert poisoned.keys() == honest.keys()
    for key, one in honest.items():
        np.testing.assert_array_equal(poisoned[key].band.quantiles, one.band.quantiles)
        np.testing.assert_array_equal(poisoned[key].peak.values, one.peak.values)
        assert (poisoned[key].model, poisoned[key].scores) == (one.model, one.scores)
