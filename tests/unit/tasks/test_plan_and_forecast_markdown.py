"""What the UI shows of forecasts, risks and decisions: narrow, linked, by the fleet's clock, no name of it markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import mistune
import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastRecord
from foreshard.control.plan_store import DecisionRecord, PlanRecord
from foreshard.settings import ClockSettings, ControlSettings, Settings
from tasks import plan_artifacts
from tasks.forecast_artifacts import SHOWN, as_table
from tasks.shard_forecast_artifact import ShardForecast, shard_markdown
from tests.made_plans import NOW, made_decision, made_plan
from tests.unit.test_forecast_plot import picture, with_plans

HOUR = timedelta(hours=1)
ZONE = "America/New_York"
EVIL = "<script>x</script>|`y`[z](http://example.com)"
FORECAST = ForecastRecord(12, NOW, 24.0, HOUR, 508, 64, 103.0, None, {}, {}, (f"note {EVIL}",))


def to_html(markdown: str) -> str:
    return str(mistune.create_markdown(escape=False, plugins=["table"])(markdown))


def row(shard: str, capacity: float) -> ShardForecast:
    return ShardForecast(shard, "queries_per_s", capacity, picture(HOUR, 24).result, 0.9)


def test_a_forecast_names_the_shard_that_saturates_and_leads_to_its_picture() -> None:
    rows = [row("shard-3", 120.0), row("shard-1", 1_000.0)]
    text = as_table(FORECAST, rows, rows[:1], ZONE)
    (first, second) = [line for line in text.splitlines() if line.startswith("| ") and "queries/s" in line]
    assert first.startswith(
        "| [shard-3](../../artifacts/key/forecast-shard-3-queries-per-s) | queries/s | 117 % | **"
    )
    assert second == "| shard-1 | queries/s | 14 % | never | <1 % | ets |"
    assert "Of Wed 27 Nov 10:10 EST (fleet clock), 24 hours ahead in steps of 60 minutes" in text
    assert "<script" not in to_html(text)


def test_two_hundred_shards_are_cut_and_counted() -> None:
    rows = [row(f"shard-{number}", 500.0) for number in range(200)]
    text = as_table(FORECAST, rows, [], ZONE)
    assert f"... and {200 - SHOWN} more with less load." in text
    assert len(as_table(FORECAST, [], [], ZONE)) < 1_500


@pytest.mark.parametrize("steps", [1, 24, 24 * 14])
def test_a_shards_forecast_says_when_before_it_shows_how(steps: int) -> None:
    text = shard_markdown(replace(picture(HOUR, steps), capacity=110.0))
    assert text.startswith("# Queries/s of shard-1\n\nThe 90 % quantile ")
    assert text.index("data:image/png") < text.index(
        "## Quantiles of each step, of the capacity 110 queries/s"
    )
    assert len(text.splitlines()) < 120
    assert ("more steps" in text) == (steps > 96)


def test_a_shards_forecast_says_what_its_plans_make_of_it() -> None:
    text = shard_markdown(with_plans(replace(picture(HOUR, 24), capacity=110.0), 3))
    assert (
        "With plan 3 done, by Tue 03 Mar 01:00 CET, the peak goes from 127 % to 64 %: the dotted line."
        in text
    ), text[:600]
    assert "dotted" not in shard_markdown(picture(HOUR, 24))


def test_risks_say_what_is_planned_and_hide_what_does_not_matter() -> None:
    record = DecisionRecord(7, 12, made_decision(made_plan()), {}, (5,))
    text = plan_artifacts.risks_markdown(record, ZONE)
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert rows[0] == (
        "| **shard-3** | **queries/s** | 50 % | 121 % | **Wed 13:00** | 62 % | [plan 5](../../artifacts/key/plan-5) |"
    )
    assert len(rows) == 4
    assert "cpu cores" not in text, "at a quarter of its capacity"
    none = plan_artifacts.risks_markdown(DecisionRecord(7, 12, made_decision(notes=()), {}, ()), ZONE)
    assert "Nothing is to be moved" in none


def test_a_decision_lists_its_plans_and_what_was_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_artifacts, "closed_times", lambda *_: [])
    settings = Settings(control=ControlSettings(dsn="dbname=none"), clock=ClockSettings(timezone=ZONE))
    control = ControlDatabase("dbname=none")
    plans = (made_plan(), made_plan(source=EVIL, after=(0,)))
    record = DecisionRecord(7, 12, made_decision(*plans, notes=(EVIL,)), {}, (5, 6))
    text = plan_artifacts.decision_markdown(control, settings, record)
    assert (
        "1. [Plan 5](../../artifacts/key/plan-5), relief: **shard-3 → shard-4**, 5 buckets, 39.0 MB. Starts "
        in text
    )
    assert ", after plan 5. " in text
    assert "## What was not done" in text
    assert "<script" not in to_html(text)
    empty = plan_artifacts.decision_markdown(
        control, settings, DecisionRecord(8, 12, made_decision(), {}, ())
    )
    assert "data:image" not in empty


def test_a_dry_run_reads_as_a_decision_does() -> None:
    text = plan_artifacts.dry_run_markdown(
        DecisionRecord(0, 12, made_decision(made_plan(), notes=(EVIL,)), {}, ()), ZONE
    )
    assert "| **shard-3** | **queries/s** | 50 % | 121 % | **Wed 13:00** | 62 % |  |" in text
    assert "from shard-3 to shard-4" in text
    assert "## What was not done" in text
    assert "UTC" not in text, "by the fleet's clock"
    assert "<script" not in to_html(text)


def test_a_plan_leads_to_what_it_was_made_from() -> None:
    decision = DecisionRecord(7, 12, made_decision(made_plan()), {}, (5,))
    said = plan_artifacts.links_of(PlanRecord(5, 7, "proposed", made_plan(), NOW), decision)
    assert said == (
        "[Fleet](../../artifacts/key/fleet) · [Decision 7](../../artifacts/key/decision) · "
        "[Forecast 12](../../artifacts/key/forecast) · "
        "[Forecast of shard-3](../../artifacts/key/forecast-shard-3-queries-per-s) · Its migration has not begun"
    )
