"""Predicted beside measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from foreshard.control.flip_store import FlipRecord
from foreshard.control.migration_models import StageRun
from foreshard.migration.reckoning import measured, predicted, side_by_side
from foreshard.planning.learnt_rates import LearntRates, Pause
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import predict

BEGAN = datetime(2026, 3, 2, 10, tzinfo=UTC)
PRIOR = predict("one", "two", 3 * 10**9, LearntRates(), DecisionPolicy())


def ran(stage: str, seconds: float | None, outcome: str = "finished", **detail: float) -> StageRun:
    ended = None if seconds is None else BEGAN + timedelta(seconds=seconds)
    return StageRun(stage=stage, outcome=outcome, started_at=BEGAN, finished_at=ended, detail=detail)


def test_side_by_side() -> None:
    runs = [
        ran("backfill", 20, "lost"),
        ran("backfill", 100, copy_seconds=70.0, index_seconds=30.0),
        ran("verify", 25),
        ran("soak", None, "running"),
    ]
    lines = side_by_side(predicted(PRIOR), measured(runs, [], {"bytes": 3 * 10**9}))
    assert [(line.what, line.predicted, line.measured, line.ratio) for line in lines] == [
        ("backfill", "2 min 30 s", "2 min", "0.80"),
        ("of it, copying rows", "-", "1 min 10 s", "-"),
        ("of it, indexes", "-", "30 s", "-"),
        ("catch-up", "10 s", "-", "-"),
        ("verification", "50 s", "25 s", "0.50"),
        ("soak", "1 min", "-", "-"),
        ("whole migration, without waiting for people", "4 min 30 s", "2 min 25 s", "0.54"),
        ("size with indexes", "3.00 GB", "3.00 GB", "1.00"),
        ("write pause of all flips", "50.0 ms", "-", "-"),
    ]


def test_the_pauses_of_all_flips_are_compared_with_what_was_learnt() -> None:
    learnt = LearntRates(pauses=(Pause("one", "two", 0.04, 1, BEGAN),))
    expected = predicted(predict("one", "two", 10**9, learnt, DecisionPolicy()))
    flips = [
        FlipRecord(1, number, 0, 100, "opened", 1, pause_ms, BEGAN, BEGAN)
        for number, pause_ms in enumerate((25.0, None, 35.0), start=1)
    ]
    (line,) = (one for one in side_by_side(expected, measured([], flips, {})) if "pause" in one.what)
    assert (line.predicted, line.measured, line.ratio) == ("40.0 ms", "60.0 ms", "1.50")


def test_parts_of_the_backfill_are_compared_where_they_were_predicted() -> None:
    learnt = replace(PRIOR, copy_s=70.0, index_s=20.0)
    lines = {line.what: line for line in side_by_side(predicted(learnt), {"copy_s": 35.0, "index_s": 30.0})}
    assert (lines["backfill"].predicted, lines["of it, copying rows"].ratio) == ("1 min 30 s", "0.50")
    assert lines["of it, indexes"].ratio == "1.50"


def test_what_neither_knows_is_no_line() -> None:
    assert predicted(None) is None
    assert side_by_side(None, None) == []
    assert side_by_side(None, measured([], [], {})) == []
    assert [line.what for line in side_by_side(None, {"verify_s": 1.0})] == ["verification"]
