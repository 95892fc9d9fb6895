"""One round of `bench_start`: from a forecast's event to the first stage. Imported when the stack is up."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling
from sqlalchemy import text

from benchmarks.embedded_stack import Quiet
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_store import PlanStore
from foreshard.migration.runner import Runner
from foreshard.settings import load_settings
from tasks import events

FORGET = (
    """
    DO $$
    DECLARE final regclass;
    BEGIN
        FOR final IN SELECT tgrelid::regclass FROM pg_trigger WHERE tgname LIKE '%_are_final' LOOP
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', final);  -- they forbid what is done here
        END LOOP;
    END $$
    """,
    "TRUNCATE decisions, plans, migrations CASCADE",
)
"""So that the same forecast is decided on anew. Numbers go on: no run is taken for one of an earlier round."""


def one_round(demo: Quiet, number: int) -> dict[str, float]:
    """Seconds of each part."""
    control = demo.control
    forecast = ForecastStore(control).newest()
    assert forecast is not None
    begun = datetime.now(UTC)
    if number:
        events.forecast_completed(forecast.id, forecast.series)
    decided = demo._until("a decision", lambda: PlanStore(control).newest_decision(), 120)
    assert decided.plan_ids, decided.decision.notes
    store = MigrationStore(control)
    migration = demo._until("a migration", lambda: next(iter(store.all()), None), 120).id
    stage = demo._until("a stage", lambda: next(iter(store.stage_runs(migration)), None), 120)
    plan = PlanStore(control).get(store.get(migration).plan_id)
    with get_client(sync_client=True) as client:
        assert plan.flow_run_id is not None
        migrate = client.read_flow_run(UUID(plan.flow_run_id))
        decide = max(
            (run for run in client.read_flow_runs(limit=200) if run.flow_id == _flow(client, "decide")),
            key=lambda run: run.created or begun,
        )
    at = [begun, *moments(decide), *moments(migrate), stage.started_at]
    names = (
        "trigger_s", "decide.poll_s", "decide.begin_s", "decide.work_s", "migrate.poll_s", "migrate.begin_s",
        "migrate.lease_s",
    )  # fmt: skip
    parts = {
        name: (after - before).total_seconds()
        for name, before, after in zip(names, at[:-1], at[1:], strict=True)
    }
    taken = moments(decide)[1]
    found = {
        "decide_to_stage_s": (stage.started_at - taken).total_seconds(),
        "event_to_stage_s": (stage.started_at - begun).total_seconds(),
        **parts,
    }
    forget(demo)
    return found


def moments(run: FlowRun) -> list[datetime]:
    """When it was made, when the serving process took it, when its flow began."""
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(run.id)
    assert run.created is not None
    taken = next(state.timestamp for state in states if state.type is StateType.PENDING)
    began = next(state.timestamp for state in states if state.type is StateType.RUNNING)
    return [run.created, taken, began]


def forget(demo: Quiet) -> None:
    """End every run and the migration, and forget the decision."""
    with get_client(sync_client=True) as client:
        alive = FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.PAUSED])
            )
        )
        for run in client.read_flow_runs(flow_run_filter=alive, limit=50):
            if run.flow_id in (_flow(client, "migrate"), _flow(client, "decide")):
                client.set_flow_run_state(run.id, Cancelling(), force=True)
    store, settings = MigrationStore(demo.control), load_settings()

    def aborted() -> bool | None:
        for record in store.live():
            try:
                with Runner(demo.control, settings, record.id, "bench_start") as runner:
                    runner.abort(lambda _: None)
            except Exception:  # a run lets go of it in a moment
                return None
        return True

    demo._until("the migration's end", aborted, 120)
    with demo.control.transaction() as session:
        for statement in FORGET:
            session.execute(text(statement))


def _flow(client: SyncPrefectClient, name: str) -> UUID:
    return client.read_flow_by_name(name).id
