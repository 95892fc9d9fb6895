"""The flow of a plan whose buckets are still on their way: it waits, says so, and ends when they do not come."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.migrate import migrate
from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease
from foreshard.control.migration_store import MigrationStore
from foreshard.control.models import Plan
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import BucketBusy
from foreshard.migration import chain
from foreshard.migration.lifecycle import PATH, Stage
from tests.flows.conftest import Deployed


@pytest.fixture
def first(control: ControlDatabase, plan_id: int) -> Lease:
    """shard-1 -> shard-2, at work."""
    store = MigrationStore(control)
    return store.acquire(store.open(plan_id), "runner", None, 600)


@pytest.fixture
def second(control: ControlDatabase, plan_id: int) -> int:
    """The plan shard-2 -> shard-3 of a bucket that the first one brings."""
    nowhere = "host=127.0.0.1 port=1 dbname=shard-3 user=foreshard"
    TopologyStore(control).put_shard(ShardRecord("shard-3", nowhere, nowhere, {"queries_per_s": 100.0}))
    with control.transaction() as session:
        earlier = session.get(Plan, plan_id)
        assert earlier is not None
        plan = Plan(
            decision_id=earlier.decision_id,
            source="shard-2",
            target="shard-3",
            buckets=["b0001"],
            document={},
        )
        session.add(plan)
        session.flush()
        return plan.id


def test_a_run_waits_for_the_bucket_and_gives_up_in_time(
    control: ControlDatabase,
    client: SyncPrefectClient,
    first: Lease,
    second: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORESHARD_MIGRATION__CHAIN_TIMEOUT_S", "0.2")
    deployed = Deployed(migrate, client)
    run = deployed.carry_out(deployed.create(plan_id=second))
    assert run.state is not None
    assert run.state.is_failed()
    assert "Waited 0.2 s, and b0001 is on its way to shard-2" in (run.state.message or "")
    assert [record.id for record in MigrationStore(control).live()] == [first.migration]


def test_a_run_goes_on_when_the_first_is_done(
    control: ControlDatabase,
    client: SyncPrefectClient,
    first: Lease,
    second: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MigrationStore(control)
    deployed = Deployed(migrate, client)
    monkeypatch.setattr(chain, "POLL_S", 0.01)
    original, polls = MigrationStore.open, iter(PATH[1:])

    def one_stage_on(asked: MigrationStore, plan: int) -> int:
        try:
            return original(asked, plan)
        except BucketBusy:
            store.go_to(first, next(polls))
            raise

    monkeypatch.setattr(MigrationStore, "open", one_stage_on)
    run = deployed.carry_out(deployed.create(plan_id=second))  # and fails, as its shards do not exist
    assert run.state is not None
    assert run.state.is_failed()
    assert "does not answer" in (run.state.message or "")
    assert [record.plan_id for record in store.live()] == [second]


def test_a_run_is_refused_when_the_first_is_given_up(
    control: ControlDatabase, client: SyncPrefectClient, first: Lease, second: int
) -> None:
    MigrationStore(control).go_to(first, Stage.ABORTING)
    deployed = Deployed(migrate, client)
    run = deployed.carry_out(deployed.create(plan_id=second))
    assert run.state is not None
    assert run.state.is_failed()
    assert f"migration {first.migration}, which was to bring it there, is aborting" in (
        run.state.message or ""
    )
