"""A migration keeps its progress and its rates; the next decision reckons with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.fleet_view import fleet_view
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.plan_store import PlanStore
from foreshard.control.progress_store import ProgressStore
from foreshard.control.rate_store import RateStore
from foreshard.errors import ForeshardError
from foreshard.forecast.band import Band
from foreshard.forecast.peak import Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.load.sample import Sample
from foreshard.migration import measured, runner
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.planning.learnt_rates import RateKind
from foreshard.planning.plan import MigrationPlan
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy
from foreshard.quantities import duration
from tasks.report_markdown import report_markdown
from tests.integration.moving_fleet import MovingFleet

POLICY = DecisionPolicy()
TOLD: dict[Stage, dict[str, Any]] = {
    Stage.BACKFILL: {"method": "pipe", "copy_seconds": 0.5, "index_seconds": 0.25, "throttled_s": 0.0},
    Stage.CATCH_UP: {"caught_up_bytes": 4000, "seconds": 0.125},
    Stage.VERIFY: {"seconds": 0.2},
}


@pytest.fixture(autouse=True)
def _stages_tell_their_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers they tell made round; and a copy of some hundred kilobytes is large enough."""
    monkeypatch.setattr(measured, "LEAST_BYTES", 1000)

    def telling(stage: Stage, run: Callable[[Work, Report], dict[str, Any]]) -> Any:
        told = TOLD.get(stage, {})

        def runs(work: Work, report: Report) -> dict[str, Any]:
            detail = run(work, report)
            assert told.keys() <= detail.keys()
            return detail | told

        return runs

    stages = {stage: telling(stage, run) for stage, run in runner._RUN.items()}
    monkeypatch.setattr(runner, "_RUN", stages)


def forecast(fleet: MovingFleet) -> ForecastRecord:
    """One in which the source goes over its capacity of 100 queries a second, as it has not before."""
    steps = pd.date_range(pd.Timestamp.now("UTC").floor("h"), periods=6, freq="h")
    spread = np.array([0.9, 0.94, 0.97, 1.0, 1.03, 1.06, 1.1])

    def result(key: SeriesKey, peak: float) -> ForecastResult:
        values = np.array([0.5, 0.6, 0.8, 1.0, 0.9, 0.6]) * peak
        return ForecastResult(
            key,
            Band(steps, values[:, None] * spread),
            Peak(np.full(17, values.max())),
            "naive",
            {},
            {},
            None,
            None,
            None,
            1,
            "",
        )

    busy, quiet = fleet.pair.source.name, fleet.pair.target.name
    results = [result(SeriesKey(None, bucket, "queries_per_s"), 2.5) for bucket in fleet.all_buckets]
    results += [result(SeriesKey(busy, None, "queries_per_s"), 120.0)]
    results += [result(SeriesKey(quiet, None, "queries_per_s"), 1.0)]
    return ForecastStore(fleet.control).save(
        datetime.now(UTC), results, step=timedelta(hours=1), horizon_hours=6, live_samples_used=0, seconds=1.0
    )


def decided(fleet: MovingFleet) -> MigrationPlan:
    """The plan of a new decision, as if nothing moved now; every bucket is of 10 MB."""
    now = datetime.now(UTC)
    source = fleet.pair.source.name
    LoadStore(fleet.control).add(
        [Sample(now, source, bucket, "size_bytes", 1e7) for bucket in fleet.all_buckets], "live"
    )
    view = fleet_view(fleet.control, fleet.settings, forecast(fleet))
    (plan,) = decide(replace(view, busy={}, moving={}), POLICY).plans
    return plan


def test_a_migration_learns_its_rates_and_the_next_plan_reckons_with_them(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = decided(fleet)
    assert before.prediction is not None
    assert before.prediction.copy_s == pytest.approx(before.bytes / POLICY.copy_bytes_per_s)
    with fleet.control.transaction() as session:
        document = json.dumps(before.to_json())
        session.connection().exec_driver_sql("UPDATE plans SET document = %s", (document,))
    fleet.run_until(None)

    size = fleet.store.get(fleet.migration).facts["bytes"]
    learnt = {one.kind: one for one in RateStore(fleet.control).learnt().samples}
    assert learnt.keys() == set(RateKind) - {RateKind.COPY_SUBSCRIPTION}
    assert learnt[RateKind.COPY_PIPE].bytes_per_s == pytest.approx(size / 0.5)
    assert (learnt[RateKind.CATCH_UP].bytes, learnt[RateKind.CATCH_UP].migration) == (4000, fleet.migration)

    confirmation = fleet.store.confirmation(fleet.migration)
    assert confirmation is not None
    assert confirmation["predicted"]["backfill_s"] == before.prediction.copy_s
    assert (confirmation["measured"]["copy_s"], confirmation["measured"]["bytes"]) == (0.5, size)
    assert confirmation["measured"]["backfill_s"] == confirmation["stage_seconds"]["backfill"]
    assert confirmation["measured"]["pause_ms"] > 0
    report = report_markdown(confirmation)
    assert f"| backfill | {duration(before.prediction.copy_s)} | " in report
    assert "| of it, copying rows | - | 0.5 s | - |" in report
    assert r"copy 20 MB/s \(the policy's number" in report

    steps = {one.step: one.document for one in ProgressStore(fleet.control).of(fleet.migration)}
    assert steps["backfill"]["done"] == steps["backfill"]["total"] > 0
    assert "verify" in steps

    with fleet.control.transaction() as session:  # all buckets back: the same decision again
        session.connection().exec_driver_sql(
            "UPDATE buckets SET shard = %s, last_moved_at = NULL", (fleet.pair.source.name,)
        )
    after = decided(fleet)
    assert after.prediction is not None
    assert after.prediction.copy_s == pytest.approx(after.bytes / (size / 0.5))
    assert after.prediction.catch_up_s == 0.125
    assert after.prediction.pause_ms == pytest.approx(confirmation["measured"]["pause_ms"], abs=0.001)
    pair = f"{fleet.pair.source.name} -> {fleet.pair.target.name}"
    assert all(f"learnt from 1 migration {pair}" in rate for rate in after.prediction.rates)

    monkeypatch.setenv("FORESHARD_CONTROL__DSN", fleet.settings.control.dsn)
    monkeypatch.chdir(fleet.state_dir)
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["migration", "show", str(fleet.migration)])
    assert shown.exit_code == 0, shown.output
    assert "of it, copying rows" in shown.output
    shown = CliRunner().invoke(app, ["migration", "show", str(fleet.migration), "--json"])
    document = json.loads(shown.stdout)
    assert document["measured"] == confirmation["measured"]
    assert {one["step"] for one in document["progress"]} == set(steps)


def test_a_stage_that_was_begun_twice_teaches_nothing(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it found done already took no time. And a plan stored without a prediction shows dashes."""
    assert PlanStore(fleet.control).prediction(fleet.store.get(fleet.migration).plan_id) is None
    with fleet.runner() as running:
        fleet.run_until(Stage.VERIFY, running)

        def fails(*_: object) -> dict[str, Any]:
            raise ForeshardError("The network went away.")

        with monkeypatch.context() as broken:
            broken.setattr(runner, "_RUN", {**runner._RUN, Stage.VERIFY: fails})
            step = running.next_step()
            assert step is not None
            with pytest.raises(ForeshardError, match="network"):
                running.perform(step, lambda _: None)
        fleet.run_until(Stage.READ_SHADOW, running)
        running.abort(lambda _: None)
    kinds = {one.kind for one in RateStore(fleet.control).learnt().samples}
    assert kinds == {RateKind.COPY_PIPE, RateKind.INDEX, RateKind.CATCH_UP}
    confirmation = fleet.store.confirmation(fleet.migration)
    assert confirmation is not None
    assert confirmation["predicted"] is None
    assert "| of it, copying rows | - | 0.5 s | - |" in report_markdown(confirmation)
    del confirmation["predicted"], confirmation["measured"], confirmation["predicted_by"]
    assert "| predicted |" not in report_markdown(confirmation)  # one that an earlier version wrote
