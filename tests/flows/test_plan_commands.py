"""What a person sees of plans in the UI, and what the commands do there, on a real Prefect server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.variables import Variable
from typer.testing import CliRunner, Result

from deployments import prefect_client
from flows.migrate import migrate
from foreshard.cli import app
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.plan_store import DecisionRecord, PlanStore
from foreshard.control.policy_store import VARIABLE
from foreshard.forecast.band import Band
from foreshard.forecast.calendar import Event, EventKind
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.planning.plan import Effect
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.timeline import Timeline
from foreshard.settings import load_settings
from tasks import plan_artifacts, shard_forecast_artifact
from tests.flows.artifact_text import artifact
from tests.flows.conftest import Deployed
from tests.flows.forecast_load import HOUR, RATE, put_load
from tests.made_plans import made_decision, made_plan, made_risk

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def result(shard: str, peak: float) -> ForecastResult:
    median = np.array([0.5, 0.6, 0.8, 1.0, 0.9, 0.6]) * peak
    spread = np.array([0.9, 0.94, 0.97, 1.0, 1.03, 1.06, 1.1])
    band = Band(pd.date_range(NOW, periods=6, freq="h"), median[:, None] * spread)
    highest = Peak(np.linspace(0.95, 1.05, len(PEAK_LEVELS)) * peak)
    key = SeriesKey(shard, None, RATE)
    return ForecastResult(key, band, highest, "ets", {}, {}, None, None, None, 9, "")


@pytest.fixture
def decided(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> DecisionRecord:
    """A plan to move two buckets in an hour."""
    put_load(control, monkeypatch)
    results = [result("shard-1", 120.0), result("shard-2", 10.0)]
    run = ForecastStore(control).save(
        NOW, results, step=HOUR, horizon_hours=6, live_samples_used=0, seconds=1.0
    )
    start = NOW + HOUR
    ends = (
        Effect("shard-1", RATE, 1.2, 0.7, 0.85, 0.9, 0.01),
        Effect("shard-2", RATE, 0.1, 0.6, 0.85, 0.0, 0.0),
    )
    times = Timeline(start, start + HOUR, start + 2 * HOUR, 840.0, 50.0)
    plan = made_plan("shard-1", "shard-2", 2, timeline=times, effects=ends)
    risks = made_risk("shard-1", 1.2, 0.9), made_risk("shard-2", 0.1, 0.0)
    decision = made_decision(plan, decided_at=NOW, risks=risks)
    return PlanStore(control).save(decision, run.id, DecisionPolicy(windows=("daily 00:00-24:00",)))


def test_artifacts(client: SyncPrefectClient, control: ControlDatabase, decided: DecisionRecord) -> None:
    settings = load_settings()
    times = NOW + 2 * HOUR, NOW + 3 * HOUR
    CalendarStore(control).add(Event("change freeze", *times, effect=None, kind=EventKind.BLACKOUT))
    assert plan_artifacts.closed_times(control, settings, decided) == [times]
    plan_artifacts.show_risks(settings, decided)
    plan_artifacts.show_decision(control, settings, decided)
    (plan_id,) = decided.plan_ids
    plan_artifacts.show_plan(control, settings, PlanStore(control).get(plan_id))
    shard_forecast_artifact.show_relief(control, settings, decided)
    assert "| **shard-1** | **queries/s** | 50 % | 120 % |" in artifact(client, "risks")
    page = artifact(client, "forecast-shard-1-queries-per-s")
    assert f"[Plan {plan_id}](../../artifacts/key/plan-{plan_id})" in page
    assert f"With plan {plan_id} done, by " in page
    assert "the peak goes from 127 % to 74 %: the dotted line." in page
    decision, plan = artifact(client, "decision"), artifact(client, f"plan-{plan_id}")
    assert "![when the plans run](data:image/png;base64," in decision
    assert f"[Plan {plan_id}](../../artifacts/key/plan-{plan_id}), relief: **shard-1 → shard-2**" in decision
    assert "shard-1 peaks at 127 % of capacity, 74 % with the plan done" in plan
    assert "# Move 2 buckets from shard-1 to shard-2" in plan
    assert max(map(len, (decision, plan))) < 70_000


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, control: ControlDatabase) -> Iterator[None]:
    """Commands reach the tests' server; what stands over the settings is removed afterwards."""
    del control
    monkeypatch.setattr(prefect_client, "use", lambda _: None)
    yield
    if Variable.get(VARIABLE, default=None) is not None:
        Variable.unset(VARIABLE)


def foreshard(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.usefixtures("call")
def test_apply_starts_one_run(
    client: SyncPrefectClient, control: ControlDatabase, decided: DecisionRecord
) -> None:
    deployed = Deployed(migrate, client)
    (plan_id,) = decided.plan_ids
    said = foreshard("plan", "apply", str(plan_id), "--yes", "--json")
    assert said.exit_code == 0, said.output
    (run,) = deployed.runs()
    assert json.loads(said.output) == {"plan": plan_id, "started": True, "run": str(run.id)}
    assert (run.parameters, run.idempotency_key) == ({"plan_id": plan_id}, f"plan-{plan_id}-1")
    assert PlanStore(control).get(plan_id).flow_run_id == str(run.id)
    again = foreshard("plan", "apply", str(plan_id), "--yes")
    assert again.exit_code == 1
    assert "is started already" in " ".join(again.output.split())
    assert len(deployed.runs()) == 1


@pytest.mark.usefixtures("call")
def test_the_standing_policy_is_a_variable() -> None:
    assert foreshard("policy", "set", "knee=0.75", "--as", "Ada").exit_code == 0
    assert Variable.get(VARIABLE) == {"knee": 0.75}
    Variable.set(VARIABLE, "no table", overwrite=True)  # as a person may in the UI
    refused = foreshard("policy", "show")
    assert refused.exit_code == 2
    assert "holds no table of fields" in " ".join(refused.output.split())
