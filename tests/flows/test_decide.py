"""The decide flow on a real Prefect server: one decision, one run a plan, by the numbers that are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed
from prefect.utilities.callables import parameter_schema
from prefect.variables import Variable
from sqlalchemy import update

from flows.decide import decide
from flows.janitor import janitor
from flows.migrate import migrate
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.models import Plan
from foreshard.control.plan_store import PlanStore
from foreshard.control.policy_store import VARIABLE, Layer, PolicyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.band import Band
from foreshard.forecast.calendar import Event, EventKind
from foreshard.forecast.peak import Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.planning.plan import MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from tasks import due_plans, events, plan_artifacts, runs
from tasks.policy_form import PolicyOverrides
from tests.flows.conftest import BUCKETS, Deployed

SPREAD = np.array([0.9, 0.94, 0.97, 1.0, 1.03, 1.06, 1.1])
RATE = "queries_per_s"
NEVER_AT_RISK = {"migration_threshold": 50.0}


def new_forecast(control: ControlDatabase, peak: float = 120.0, metrics: list[str] | None = None) -> int:
    """One in which the first shard, with all buckets, peaks at so many of its 100 queries a second."""
    steps = pd.date_range(pd.Timestamp.now("UTC").floor("h"), periods=6, freq="h")

    def result(key: SeriesKey, peak: float) -> ForecastResult:
        values = np.array([0.5, 0.6, 0.8, 1.0, 0.9, 0.6]) * peak
        return ForecastResult(
            key, Band(steps, values[:, None] * SPREAD), Peak(np.linspace(0.95, 1.05, 17) * values.max()), "naive",
            {}, {}, None, None, None, 1000, "",
        )  # fmt: skip

    results = [result(SeriesKey(None, bucket, RATE), peak / 4) for bucket in BUCKETS]
    results += [result(SeriesKey("shard-1", None, RATE), peak), result(SeriesKey("shard-2", None, RATE), 1.0)]
    saved = ForecastStore(control).save(
        datetime.now(UTC), results, step=timedelta(hours=1), horizon_hours=6, live_samples_used=0, seconds=1.0,
        metrics=metrics,
    )  # fmt: skip
    return saved.id


@pytest.fixture
def forecast(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> int:
    """A forecast of excess, and plans that start at once."""
    monkeypatch.setenv("FORESHARD_FORECAST__HORIZON_HOURS", "6")  # one of less is not decided on
    monkeypatch.setenv("FORESHARD_DECISION__START", "now")
    # There is no load to draw; the pictures' own tests are in test_forecast.
    monkeypatch.setattr(plan_artifacts, "show_plan", lambda *_, **__: None)
    return new_forecast(control)


@pytest.fixture
def variable() -> Iterator[None]:
    """The standing overrides are removed afterwards: the Prefect server is the whole session's."""
    yield
    if Variable.get(VARIABLE, default=None) is not None:
        Variable.unset(VARIABLE)


@pytest.fixture
def deployed(client: SyncPrefectClient, control: ControlDatabase) -> Deployed:
    """The migrations' deployment."""
    del control
    return Deployed(migrate, client)


def plan_of(control: ControlDatabase) -> MigrationPlan:
    (plan,) = PlanStore(control).all()
    return plan.plan


def started_for(deployed: Deployed, plan_id: int) -> list[FlowRun]:
    return [run for run in deployed.runs() if run.parameters == {"plan_id": plan_id}]


def test_deciding_twice_starts_one_migration(
    deployed: Deployed, control: ControlDatabase, forecast: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: told.append(event))
    first, again = decide(), decide()
    assert [(one["event"], one["payload"]["plans"], one["payload"]["started"]) for one in told] == [
        ("foreshard.decision.completed", first, first)
    ]
    assert first == again
    (plan,) = PlanStore(control).all()
    assert [plan.id] == first
    assert PlanStore(control).decision(plan.decision_id).forecast_run_id == forecast
    (run,) = deployed.runs()
    assert run.parameters == {"plan_id": plan.id}
    assert run.idempotency_key == f"plan-{plan.id}-1"
    assert (plan.attempts, plan.flow_run_id) == (1, str(run.id))
    assert run.name == f"migrate shard-1 -> shard-2, {len(plan.plan.buckets)} bucket" + (
        "s" if len(plan.plan.buckets) > 1 else ""
    )
    assert PolicyStore(control).changes()[0].after == {"start": "now"}


def test_two_at_once_start_one_run_a_plan(
    deployed: Deployed, control: ControlDatabase, forecast: int
) -> None:
    del forecast
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: decide(), range(2))
    assert one == other
    assert len(PlanStore(control).all()) == len(deployed.runs()) == 1


def test_two_at_once_by_other_policies_move_no_bucket_twice(
    deployed: Deployed, control: ControlDatabase, forecast: int
) -> None:
    """Both decide; the one that comes later keeps the other's plan or puts its own in the place."""
    del forecast
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda knee: decide(policy=PolicyOverrides(knee=knee)), (0.8, 0.7)))
    proposed = [plan for plan in PlanStore(control).all() if plan.state == "proposed"]
    buckets = [bucket for plan in proposed for bucket in plan.plan.buckets]
    assert len(buckets) == len(set(buckets)) > 0
    for plan in proposed:
        assert len(started_for(deployed, plan.id)) <= 1


def test_the_run_s_own_threshold(deployed: Deployed, control: ControlDatabase, forecast: int) -> None:
    """Every run with numbers of its own is kept; the next one without is by the standing policy again."""
    del forecast
    assert decide(policy=PolicyOverrides(**NEVER_AT_RISK)) == []
    (change, *_) = PolicyStore(control).changes()
    assert (change.layer, change.before, change.after) == (
        Layer.PARAMETERS,
        {"migration_threshold": DecisionPolicy().migration_threshold},
        NEVER_AT_RISK,
    )
    assert change.who.startswith("flow run ")
    assert deployed.runs() == []
    assert len(decide()) == 1


@pytest.mark.usefixtures("variable")
def test_the_standing_threshold_is_read_in_each_run(
    deployed: Deployed, control: ControlDatabase, forecast: int
) -> None:
    del forecast
    Variable.set(VARIABLE, NEVER_AT_RISK, overwrite=True)
    assert decide() == []
    assert PolicyStore(control).changes()[0].layer is Layer.VARIABLE
    assert deployed.runs() == []
    assert len(decide(policy=PolicyOverrides(migration_threshold=0.02))) == 1
    Variable.unset(VARIABLE)
    assert len(decide()) == 1
    assert PolicyStore(control).changes()[0].before == NEVER_AT_RISK


@pytest.mark.usefixtures("variable")
@pytest.mark.parametrize(
    ("standing", "field"),
    [
        ({"knee": 2}, "foreshard_policy.knee"),
        ({"kne": 1}, "foreshard_policy.kne"),
        ("knee", "foreshard_policy"),
    ],
)
def test_a_bad_standing_policy_stops_the_run_and_nothing_is_stored(
    control: ControlDatabase, deployed: Deployed, forecast: int, standing: Any, field: str
) -> None:
    del forecast
    Variable.set(VARIABLE, standing, overwrite=True)
    with pytest.raises(InvalidInput) as refused:
        decide()
    assert refused.value.field == field
    assert PlanStore(control).newest_decision() is None
    assert PolicyStore(control).changes() == []
    assert deployed.runs() == []


def test_a_parameter_that_only_the_policy_can_judge(control: ControlDatabase, forecast: int) -> None:
    del forecast
    with pytest.raises(InvalidInput, match=r"parameters\.relief_probability"):
        decide(policy=PolicyOverrides(relief_probability=0.33))
    assert PlanStore(control).newest_decision() is None


def test_the_form_shows_choices_ranges_and_what_they_mean() -> None:
    schema = parameter_schema(decide)
    fields = schema.definitions["PolicyOverrides"]["properties"]
    assert fields.keys() == DecisionPolicy.model_fields.keys()
    assert all(one["description"] for one in fields.values())
    assert fields["policy"]["anyOf"][0]["enum"] == ["probabilistic", "threshold"]
    assert fields["start"]["anyOf"][0]["enum"] == ["trough", "now"]
    assert (fields["knee"]["type"], fields["knee"]["exclusiveMinimum"], fields["knee"]["maximum"]) == (
        "number",
        0,
        1,
    )
    assert fields["max_migrations"]["minimum"] == 1
    assert schema.properties["dry_run"]["type"] == "boolean"
    assert "store nothing" in schema.properties["dry_run"]["description"]


def test_a_dry_run_shows_and_stores_nothing(
    client: SyncPrefectClient, control: ControlDatabase, deployed: Deployed, forecast: int
) -> None:
    assert decide(dry_run=True, policy=PolicyOverrides(knee=0.75)) == []
    assert PlanStore(control).newest_decision() is None
    assert PolicyStore(control).changes() == []
    assert deployed.runs() == []
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["decision-dry-run"]))
    (shown, *_) = client.read_artifacts(artifact_filter=wanted, limit=1)
    text = str(shown.data)
    assert "| **shard-1** | " in text
    assert "from shard-1 to shard-2" in text
    assert f"forecast {forecast}" in (shown.description or "")


def test_a_forecast_that_is_asked_for(control: ControlDatabase, forecast: int) -> None:
    newer = new_forecast(control, peak=30.0)
    assert decide() == []
    assert len(decide(forecast_id=forecast)) == 1
    newest = PlanStore(control).newest_decision()
    assert newest is not None
    assert newest.forecast_run_id == forecast < newer
    partial = new_forecast(control, metrics=[RATE])
    with pytest.raises(InvalidInput, match="forecast_id"):
        decide(forecast_id=partial)
    with pytest.raises(NotFound, match="no forecast 999"):
        decide(forecast_id=999)


def test_a_newer_forecast_expires_what_it_does_not_ask_for(
    deployed: Deployed, control: ControlDatabase, forecast: int
) -> None:
    del forecast
    (plan,) = decide()
    new_forecast(control, peak=121.0)
    assert decide() == [plan], "the same move is the same plan"
    new_forecast(control, peak=30.0)
    assert decide() == []
    assert PlanStore(control).get(plan).state == "expired"
    run = deployed.carry_out(started_for(deployed, plan)[0])
    assert run.state is not None
    assert run.state.type is StateType.CANCELLED
    assert f"Plan {plan} is expired by decision" in (run.state.message or "")


@pytest.mark.usefixtures("deployed")
def test_a_migration_under_way_counts_as_done_and_is_checked_while_it_waits(
    control: ControlDatabase, forecast: int
) -> None:
    del forecast
    store = MigrationStore(control)
    (plan,) = decide()
    number = store.open(plan)
    store.release(store.acquire(number, "test", None, 60), waiting_for="approval")
    new_forecast(control)
    assert decide() == [], "what moves is planned with as if it were there"
    marked = PlanStore(control).get(plan).recheck
    assert marked is not None
    assert (marked["supported"], marked["risk"] > 0.5) == (True, True)
    new_forecast(control, peak=30.0)
    assert decide() == []
    marked = PlanStore(control).get(plan).recheck
    assert marked is not None
    assert (marked["supported"], marked["risk"] < 0.01) == (False, True)
    assert PlanStore(control).get(plan).state == "migrating"


def test_a_plan_starts_when_its_time_has_come(
    deployed: Deployed, control: ControlDatabase, forecast: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    del forecast
    monkeypatch.setenv("FORESHARD_DECISION__MARGIN_S", "0")
    (plan,) = decide(policy=PolicyOverrides(start="now"), dry_run=False)
    assert len(started_for(deployed, plan)) == 1
    later = datetime.now(UTC) + timedelta(hours=1)
    with control.transaction() as session:
        session.execute(update(Plan).values(not_before=later, attempts=0, flow_run_id=None, claimed_at=None))
    for run in deployed.runs():
        deployed.delete(run)
    janitor()
    assert deployed.runs() == []
    with control.transaction() as session:
        session.execute(update(Plan).values(not_before=datetime.now(UTC)))
    janitor(dry_run=True)
    assert deployed.runs() == []
    now = datetime.now(UTC)
    calendar = CalendarStore(control)
    blackout = calendar.add(
        Event("audit", now - timedelta(hours=1), now + timedelta(hours=1), None, kind=EventKind.BLACKOUT)
    )
    janitor()
    assert deployed.runs() == [], "declared since it was planned"
    calendar.remove(blackout.id)
    janitor()
    janitor()
    assert len(started_for(deployed, plan)) == 1


def test_a_plan_whose_run_is_dead_is_started_again(
    client: SyncPrefectClient, deployed: Deployed, control: ControlDatabase, forecast: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    del forecast
    store = PlanStore(control)
    (plan,) = decide()
    (first,) = started_for(deployed, plan)
    janitor()
    assert len(deployed.runs()) == 1, "it is on its way"
    client.set_flow_run_state(first.id, Crashed(), force=True)
    janitor()
    (second,) = [run for run in started_for(deployed, plan) if run.id != first.id]
    assert (second.idempotency_key, store.get(plan).attempts) == (f"plan-{plan}-2", 2)

    client.set_flow_run_state(second.id, Crashed(), force=True)
    janitor()
    assert store.get(plan).attempts == 2, "a moment ago: it would go on for ever"
    monkeypatch.setattr(due_plans, "_rested", lambda _: True)
    deployed.delete(second)
    assert decide() == [plan]
    assert store.get(plan).attempts == 3, "gone"

    third = next(run for run in started_for(deployed, plan) if run.idempotency_key == f"plan-{plan}-3")
    deployed.call_it_running(third)
    janitor()
    assert store.get(plan).attempts == 3, "it may be about to open its migration"
    monkeypatch.setattr(due_plans, "OPENS_WITHIN", timedelta(0))
    janitor()
    assert store.get(plan).attempts == 4
    state = client.read_flow_run(third.id).state
    assert state is not None
    assert state.is_crashed()

    fourth = next(run for run in started_for(deployed, plan) if run.idempotency_key == f"plan-{plan}-4")
    client.set_flow_run_state(fourth.id, Cancelled(), force=True)
    janitor()
    assert store.get(plan).attempts == 4, "a person stopped it"


def test_an_attempt_whose_run_was_never_noted(
    deployed: Deployed, control: ControlDatabase, forecast: int
) -> None:
    """Whoever took it died in between: before the run was made, or after."""
    del forecast
    (plan,) = decide()
    (run,) = deployed.runs()
    with control.transaction() as session:
        session.execute(update(Plan).values(flow_run_id=None))
    janitor()
    assert PlanStore(control).get(plan).flow_run_id == str(run.id)
    deployed.delete(run)
    with control.transaction() as session:
        session.execute(update(Plan).values(flow_run_id=None))
    janitor()
    (made,) = deployed.runs()
    assert PlanStore(control).get(plan).flow_run_id == str(made.id)
    assert PlanStore(control).get(plan).attempts == 1


def test_a_server_that_is_away_when_a_plan_is_due_loses_no_plan(
    deployed: Deployed, control: ControlDatabase, forecast: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt is taken first, the run made after it: what fails in between is made up for under the same key."""
    del forecast

    def away(*_: object, **__: object) -> None:
        raise httpx.ConnectError("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "run_deployment", away)
        (plan,) = decide()
    assert deployed.runs() == []
    janitor()
    janitor()
    (run,) = deployed.runs()
    assert (run.parameters, PlanStore(control).get(plan).attempts) == ({"plan_id": plan}, 1)


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
