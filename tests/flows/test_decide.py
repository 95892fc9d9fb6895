"""However often decide is started on one forecast, there is one decision, one plan, one migration run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.decide import decide
from flows.janitor import janitor
from flows.migrate import migrate
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_store import PlanStore
from foreshard.forecast.band import Band
from foreshard.forecast.peak import Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from tests.flows.conftest import BUCKETS, Deployed

SPREAD = np.array([0.9, 0.94, 0.97, 1.0, 1.03, 1.06, 1.1])


@pytest.fixture
def forecast(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> int:
    """A forecast in which the first shard, with all buckets, goes over its capacity of 100 queries a second."""
    monkeypatch.setenv("FORESHARD_FORECAST__HORIZON_HOURS", "6")  # one of less is not decided on
    steps = pd.date_range(pd.Timestamp.now("UTC").ceil("h"), periods=6, freq="h")

    def result(key: SeriesKey, peak: float) -> ForecastResult:
        values = np.array([0.5, 0.6, 0.8, 1.0, 0.9, 0.6]) * peak
        return ForecastResult(
            key,
            Band(steps, values[:, None] * SPREAD),
            Peak(np.full(17, values.max())),
            "naive",
            {},
            {},
            None,
            None,
            None,
            1000,
            "",
        )

    metric = "queries_per_s"
    results = [result(SeriesKey(None, bucket, metric), 30.0) for bucket in BUCKETS]
    results += [
        result(SeriesKey("shard-1", None, metric), 120.0),
        result(SeriesKey("shard-2", None, metric), 1.0),
    ]
    store = ForecastStore(control)
    saved = store.save(
        datetime.now(UTC), results, step=timedelta(hours=1), horizon_hours=6, live_samples_used=0, seconds=1.0
    )
    return saved.id


def test_deciding_twice_starts_one_migration(
    client: SyncPrefectClient, control: ControlDatabase, forecast: int
) -> None:
    deployed = Deployed(migrate, client)
    first, again = decide(), decide()
    assert first == again
    (plan,) = PlanStore(control).all()
    assert [plan.id] == first
    assert PlanStore(control).decision(plan.decision_id).forecast_run_id == forecast
    (run,) = deployed.runs()
    assert run.parameters == {"plan_id": plan.id}
    assert run.name == f"migrate shard-1 -> shard-2, {len(plan.plan.buckets)} bucket" + (
        "s" if len(plan.plan.buckets) > 1 else ""
    )


def test_the_same_plan_opens_one_migration_however_many_ask(control: ControlDatabase, plan_id: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(MigrationStore(control).open, [plan_id] * 4))
    assert len(set(opened)) == 1


def test_the_janitor_starts_an_abandoned_migration_once(
    client: SyncPrefectClient, control: ControlDatabase, plan_id: int
) -> None:
    deployed = Deployed(migrate, client)
    store = MigrationStore(control)
    number = store.open(plan_id)
    dead = deployed.create(plan_id=plan_id)
    deployed.call_it_running(dead)
    store.release(store.acquire(number, "a runner that died", str(dead.id), 60))
    assert janitor() == [number]
    janitor()  # the new run has not begun yet
    fresh = [run for run in deployed.runs() if run.id != dead.id]
    assert [run.parameters for run in fresh] == [{"migration_id": number}]
    state = client.read_flow_run(dead.id).state
    assert state is not None
    assert state.is_crashed()


def test_the_janitor_leaves_a_migration_alone_that_somebody_drives(
    client: SyncPrefectClient, control: ControlDatabase, plan_id: int
) -> None:
    deployed = Deployed(migrate, client)
    store = MigrationStore(control)
    store.acquire(store.open(plan_id), "alive", None, 60)
    assert janitor() == []
    assert deployed.runs() == []


def test_a_dry_run_of_the_janitor_starts_nothing(
    client: SyncPrefectClient, control: ControlDatabase, plan_id: int
) -> None:
    """Its shards do not answer: that is told, and no failure of the run."""
    deployed = Deployed(migrate, client)
    store = MigrationStore(control)
    number = store.open(plan_id)
    store.release(store.acquire(number, "a runner that died", None, 60))
    assert janitor(dry_run=True) == []
    assert deployed.runs() == []
