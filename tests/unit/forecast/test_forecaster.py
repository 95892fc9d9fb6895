from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.forecast.backtest import past_origins
from foreshard.forecast.calendar import Event, EventKind
from foreshard.forecast.forecast_options import Before, ForecastOptions, turns_for
from foreshard.forecast.forecaster import forecast
from foreshard.forecast.models.ets import Ets
from foreshard.forecast.models.lightgbm import Lightgbm
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast.training import Trained, train

MakeLoad = Callable[..., "pd.Series[float]"]
LOCAL = ForecastOptions(24, ("seasonal_naive", "ets"))
NAIVE = ForecastOptions(24, ("seasonal_naive",))
LATER = 24


@pytest.fixture(scope="module")
def make_panel(make_load: MakeLoad, start: datetime, new_york: ZoneInfo) -> Callable[..., Panel]:
    """``make_panel(series, hours=, events=)``: buckets up to ``start``, of several sizes."""

    def make(series: int = 4, hours: int = 1008, events: Sequence[Event] = ()) -> Panel:
        values = [make_load(hours, level=10.0 * (row + 1), seed=row).to_numpy() for row in range(series)]
        keys = tuple(SeriesKey(None, f"b{row}", "queries_per_s") for row in range(series))
        begins = start - hours * HOUR
        return Panel(keys, np.array(values, np.float32), begins, HOUR, new_york, tuple(events))

    return make


def run(panel: Panel, options: ForecastOptions = LOCAL, **more: object) -> list[ForecastResult]:
    return forecast(train(panel, options), panel, options, **more)  # type: ignore[arg-type]


def bands(results: Sequence[ForecastResult]) -> np.ndarray:
    return np.stack([result.band.quantiles for result in results])


@pytest.fixture(scope="module")
def small_trees() -> Callable[[pytest.MonkeyPatch], None]:
    """Trees that grow in a moment."""

    def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Lightgbm, "growth", replace(Lightgbm.growth, rounds=25, learning_rate=0.2))
        monkeypatch.setattr(Lightgbm, "samples", 8_000)

    return make_small


def test_all_models_compete_and_the_forecast_is_good(
    make_panel: Callable[..., Panel],
    start: datetime,
    make_load: MakeLoad,
    monkeypatch: pytest.MonkeyPatch,
    small_trees: Callable[[pytest.MonkeyPatch], None],
) -> None:
    small_trees(monkeypatch)
    panel = make_panel()
    options = ForecastOptions(24, ("seasonal_naive", "ets", "prophet", "lightgbm"))
    results = run(panel, options)
    for row, result in enumerate(results):
        assert set(result.scores) >= {"seasonal_naive", "ets", "prophet", "lightgbm"}
        assert result.model != "seasonal_naive"
        assert result.score is not None
        assert result.score < 0.9
        assert sum(result.weights.values()) == pytest.approx(1.0)
        assert (result.points, result.note) == (1008, "")
        assert result.trained_to == start - HOUR
        assert result.band.ts[0] == pd.Timestamp(start)
        assert result.coverage is not None
        assert 0.75 <= result.coverage <= 0.99
        actual = make_load(24, level=10.0 * (row + 1), begin=start, seed=100 + row).to_numpy()
        inside = (result.band.at(0.05) <= actual) & (actual <= result.band.at(0.95))
        assert inside.mean() >= 0.7
        assert np.abs(result.band.at(0.5) / actual - 1).mean() < 0.15
        highest = actual.max()
        assert result.peak.above(0.5 * highest) > 0.9
        assert result.peak.above(2.0 * highest) < 0.1


def test_a_declared_event_multiplies_the_forecast(make_panel: Callable[..., Panel], start: datetime) -> None:
    sale = Event("sale", start + 4 * HOUR, start + 8 * HOUR, 1.35)
    ordinary, with_sale = run(make_panel()), run(make_panel(events=[sale]))
    ratio = bands(with_sale) / bands(ordinary)
    assert ratio[:, 4:8] == pytest.approx(1.35, rel=1e-4)
    assert np.delete(ratio, slice(4, 8), axis=1) == pytest.approx(1.0, rel=1e-4)


def test_a_declared_event_at_the_peak_moves_the_peak(
    make_panel: Callable[..., Panel], start: datetime
) -> None:
    sale = Event("sale", start, start + 24 * HOUR, 2.0)
    ordinary, with_sale = run(make_panel()), run(make_panel(events=[sale]))
    for one, other in zip(ordinary, with_sale, strict=True):
        assert other.peak.values == pytest.approx(2.0 * one.peak.values, rel=0.01)


def test_an_event_under_way_is_not_counted_twice(make_panel: Callable[..., Panel], start: datetime) -> None:
    ordinary = make_panel()
    sale = Event("sale", start - 30 * HOUR, start + 60 * HOUR, 2.0)
    seen = ordinary.values.copy()
    seen[:, -30:] *= 2.0
    expected = 2.0 * bands(run(ordinary))
    found = bands(run(replace(ordinary, values=seen, events=(sale,))))
    assert found == pytest.approx(expected, rel=0.01)


def test_a_holiday_without_effect_is_learnt(make_panel: Callable[..., Panel], start: datetime) -> None:
    """Load was halved on three holidays; the fourth is ahead."""
    days = [start - timedelta(days=back) for back in (35, 21, 11)]
    panel = make_panel(2, 1008)
    values = panel.values.copy()
    events = []
    for day in [*days, start]:
        events.append(Event("rest", day, day + timedelta(days=1), None, kind=EventKind.HOLIDAY))
        first = (day - panel.starts_at) // HOUR
        values[:, first : first + 24] *= 0.5
    options = ForecastOptions(24, ("prophet",))
    known = replace(panel, values=values)
    with_it = run(replace(known, events=tuple(events)), options)
    without = run(replace(known, events=tuple(events[:-1])), options)
    for one, other in zip(with_it, without, strict=True):
        assert one.weights.get("prophet", 0) > 0
        assert one.band.at(0.5).sum() < 0.75 * other.band.at(0.5).sum()


def test_no_model_can_see_the_future(
    make_panel: Callable[..., Panel],
    monkeypatch: pytest.MonkeyPatch,
    small_trees: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Whatever comes after the end, forecast and scores are the same to the last digit."""
    small_trees(monkeypatch)
    whole = make_panel()
    end = whole.steps - 30
    poisoned = whole.values.copy()
    poisoned[:, end:] = 1e9
    options = ForecastOptions(24, ("seasonal_naive", "ets", "prophet", "lightgbm"))
    honest = run(whole.until(end), options)
    spoilt = run(whole.with_values(poisoned).until(end), options)
    assert np.array_equal(bands(honest), bands(spoilt))
    assert [one.scores for one in honest] == [one.scores for one in spoilt]


def test_past_forecasts_see_nothing_of_their_truth(
    make_panel: Callable[..., Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each origin a model is given what was known, and truth comes from the other call."""
    panel = make_panel(1)
    given: list[int] = []
    honest = Ets.fit

    def watched(self: Ets, shown: Panel, horizon: int, seed: int) -> object:
        given.append(shown.steps)
        return honest(self, shown, horizon, seed)

    monkeypatch.setattr(Ets, "fit", watched)
    run(panel)
    origins = past_origins(panel, 24)
    assert sorted(given) == sorted([panel.steps, origins[0]])


BAD: list[tuple[str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("all zero", lambda load: load * 0, "all zero"),
    ("constant", lambda load: load * 0 + 5, "constant"),
    (
        "three points",
        lambda load: np.where(np.arange(len(load)) >= len(load) - 3, load, np.nan),
        "3 known steps",
    ),
    ("no value", lambda load: load * np.nan, "no history"),
    ("huge gaps", lambda load: np.where(np.arange(len(load)) % 100 < 20, load, np.nan), "is missing"),
    ("negative", lambda load: np.where(np.arange(len(load)) == 500, -1.0, load), "1 negative value"),
    ("infinite", lambda load: np.where(np.arange(len(load)) == 500, np.inf, load), "1 infinite value"),
    ("one of 1e12", lambda load: np.where(np.arange(len(load)) == 900, 1e12, load), "left out 1 value"),
    ("old", lambda load: np.where(np.arange(len(load)) < len(load) - 30, load, np.nan), "old"),
]


def test_bad_series_get_a_band_and_a_note_and_touch_nobody(make_panel: Callable[..., Panel]) -> None:
    good = make_panel(3)
    values = np.vstack([good.values, *[[spoil(good.values[0])] for _, spoil, _ in BAD]]).astype(np.float32)
    keys = good.keys + tuple(SeriesKey(None, name, "queries_per_s") for name, _, _ in BAD)
    together = run(replace(good, keys=keys, values=values))
    assert [result.key for result in together] == list(keys)
    for result, (name, _, said) in zip(together[3:], BAD, strict=True):
        assert result.band.quantiles.shape == (24, 7)
        assert said in result.note, name
        assert result.band.quantiles.max() < 10 * good.values.max(), name
    medians = bands(together)[:3, :, 3] / bands(run(good))[:, :, 3]
    assert medians == pytest.approx(1.0, rel=0.1)
    assert all(result.note == "" for result in together[:3])
    nothing = together[3 + [name for name, _, _ in BAD].index("no value")]
    assert nothing.band.quantiles.max() == 0
    assert nothing.peak.above(0.0) == 0.0
    assert "the forecast is zero" in nothing.note


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.floats(0, 1e12), st.just(float("nan")), st.floats(-10, 0)), min_size=1, max_size=200
    )
)
def test_any_short_series_gets_a_band(values: list[float]) -> None:
    key = SeriesKey("shard-1", None, "cpu_cores")
    panel = Panel((key,), np.array([values], np.float32), datetime(2026, 1, 5, tzinfo=UTC), HOUR)
    (result,) = run(panel)
    assert result.band.quantiles.shape == (24, 7)


@pytest.mark.parametrize("minutes", [5, 15])
def test_steps_below_an_hour(minutes: int) -> None:
    day = 24 * 60 // minutes
    steps = np.arange(12 * day)
    rng = np.random.default_rng(4)
    curve = 100 + 50 * np.sin(2 * np.pi * steps / day) + rng.normal(0, 4, (3, len(steps)))
    keys = tuple(SeriesKey(None, f"b{row}", "queries_per_s") for row in range(3))
    panel = Panel(
        keys, curve.astype(np.float32), datetime(2026, 1, 5, tzinfo=UTC), timedelta(minutes=minutes)
    )
    known = panel.until(panel.steps - 12)
    for result, truth in zip(run(known, replace(LOCAL, horizon=12)), curve[:, -12:], strict=True):
        assert np.abs(result.band.at(0.5) / truth - 1).mean() < 0.15


def test_a_level_shift_is_followed_within_a_day(make_panel: Callable[..., Panel]) -> None:
    """A tenant came thirty hours ago: load has doubled since."""
    panel = make_panel(3)
    values = panel.values.copy()
    values[:, -30:] *= 2.0
    shifted = run(panel.with_values(values))
    expected = 2.0 * bands(run(panel))[:, :, 3]
    assert bands(shifted)[:, :, 3] == pytest.approx(expected, rel=0.25)
    assert all("times its earlier level" in result.note for result in shifted)


def test_a_failed_fit_is_replaced_by_the_last_known_good(
    make_panel: Callable[..., Panel],
    monkeypatch: pytest.MonkeyPatch,
    small_trees: Callable[[pytest.MonkeyPatch], None],
) -> None:
    small_trees(monkeypatch)
    panel, options = make_panel(), ForecastOptions(24, ("seasonal_naive", "lightgbm"))
    good = train(panel, options)
    expected = forecast(good, panel, options)

    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(Lightgbm, "fit", fail)
    stood_in = train(panel, options, good.kept())
    assert "no such luck" in stood_in.notes[0]
    assert "last known good" in stood_in.notes[0]
    assert stood_in.kept() == {}, "it is not kept as if it were new"
    assert bands(forecast(stood_in, panel, options)) == pytest.approx(bands(expected))
    alone = train(panel, options)
    assert "does not compete" in alone.notes[0]
    assert all(result.model == "seasonal_naive" for result in forecast(alone, panel, options))
    torn = train(panel, options, {"lightgbm": b"x", "lightgbm/past": b"y"})
    assert "cannot be read" in torn.notes[0]


def test_a_failing_local_fit_leaves_the_others(
    make_panel: Callable[..., Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    from statsforecast.models import AutoETS

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such luck")

    before = {key: Before("ets", {"ets": 0.8}) for key in make_panel(2).keys}
    monkeypatch.setattr(AutoETS, "fit", fail)
    results = run(make_panel(2), before=before)
    assert all(result.model == "seasonal_naive" for result in results)
    assert all("no such luck" in result.note for result in results)


def test_a_model_that_breaks_does_not_compete(
    make_panel: Callable[..., Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its library cannot be imported, or a fit of before is of another horizon."""

    def fail(*_: object, **__: object) -> None:
        raise ImportError("no such library")

    monkeypatch.setattr(Ets, "fit", fail)
    results = run(make_panel(2))
    assert all(result.model == "seasonal_naive" for result in results)
    assert all("ets does not compete (ImportError: no such library)" in result.note for result in results)


def test_challengers_take_turns_and_those_near_the_best_are_always_asked(
    make_panel: Callable[..., Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = make_panel(12, 400)
    asked: list[SeriesKey] = []
    honest = Ets.fit

    def watched(self: Ets, shown: Panel, horizon: int, seed: int) -> object:
        asked.extend(shown.keys)
        return honest(self, shown, horizon, seed)

    monkeypatch.setattr(Ets, "fit", watched)
    options = replace(LOCAL, turns=4)
    before = {key: Before("seasonal_naive", {"seasonal_naive": 1.0, "ets": 2.0}) for key in panel.keys}
    each_turn = []
    for turn in range(100, 104):
        asked.clear()
        results = run(panel, options, before=before, turn=turn)
        each_turn.append(set(asked))
        for result in results:
            assert result.scores["ets"] == 2.0 or result.key in asked, "what is not tried keeps its score"
    assert set.union(*each_turn) == set(panel.keys)
    assert sum(map(len, each_turn)) == len(panel.keys)
    near = before | {panel.keys[0]: Before("ets", {"seasonal_naive": 1.0, "ets": 0.9})}
    for turn in range(4):
        asked.clear()
        run(panel, options, before=near, turn=turn)
        assert panel.keys[0] in asked


def test_chunks_give_what_the_whole_gives_but_for_pooled_calibration(
    make_panel: Callable[..., Panel],
) -> None:
    panel = make_panel(4, 500)
    whole = run(panel, NAIVE)
    parts = [*run(panel.rows(np.array([0, 1])), NAIVE), *run(panel.rows(np.array([2, 3])), NAIVE)]
    assert [one.key for one in parts] == [one.key for one in whole]
    assert bands(parts)[:, :, 3] == pytest.approx(bands(whole)[:, :, 3])


def test_fits_repeat_and_leave_nothing_behind(
    make_panel: Callable[..., Panel], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = set(Path(tempfile.gettempdir()).glob("foreshard-fit-*"))
    panel, options = make_panel(2), ForecastOptions(24, ("prophet", "ets"))
    assert np.array_equal(bands(run(panel, options)), bands(run(panel, options)))
    assert set(Path(tempfile.gettempdir()).glob("foreshard-fit-*")) <= before
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_fits_stay_silent_when_logging_is_configured_after_the_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`logging.config.dictConfig` enables every logger that it finds."""
    logger = logging.getLogger("cmdstanpy")
    monkeypatch.setattr(logger, "disabled", False)
    assert not logger.isEnabledFor(logging.ERROR)


def test_bad_questions_are_refused() -> None:
    with pytest.raises(InvalidInput, match="horizon"):
        ForecastOptions(0)
    with pytest.raises(InvalidInput, match="turns"):
        ForecastOptions(1, turns=0)
    with pytest.raises(InvalidInput, match=r"no model 'oracle'.*ets"):
        ForecastOptions(1, ("oracle",))


def test_of_nothing_nothing_is_forecast() -> None:
    nothing = Panel((), np.zeros((0, 48), np.float32), datetime(2026, 1, 5, tzinfo=UTC), HOUR)
    assert forecast(Trained(), nothing, NAIVE) == []


def test_few_series_are_all_tried_in_each_run() -> None:
    assert [turns_for(series) for series in (0, 1, 200, 201, 1_000, 100_000)] == [1, 1, 1, 2, 5, 24]
