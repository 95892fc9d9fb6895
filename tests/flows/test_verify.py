"""The flow `verify`, as Prefect runs it, and `migrate` held back by what it found."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.utilities.callables import parameter_schema

from deployments.serve import deployments
from flows.migrate import migrate
from flows.verify import verify
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.control.verification_store import VerificationStore
from foreshard.errors import ForeshardError, InvalidInput, VerificationFailed
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.migration import runner as runners
from foreshard.migration import verification
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.topology.keys import SLOTS
from tasks import events
from tests.flows.artifact_text import artifact
from tests.flows.conftest import Deployed


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Events that were emitted."""
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: emitted.append(event))
    return emitted


@pytest.fixture
def soaking(control: ControlDatabase, plan_id: int) -> int:
    """A migration that is cut over; its shards do not answer."""
    store = MigrationStore(control)
    number = store.open(plan_id)
    lease = store.acquire(number, "test", None, 60)
    for stage in PATH[1 : PATH.index(Stage.SOAK) + 1]:
        store.go_to(lease, stage)
    store.set_routing(lease, bound=SLOTS)
    store.release(lease)
    return number


def test_the_form_and_the_schedule() -> None:
    schema = parameter_schema(verify)
    assert schema.properties.keys() == {"migration_id", "bucket"}
    assert all(one.get("description") for one in schema.properties.values())

    def interval(made: list[Any]) -> Any:
        (one,) = [one for one in made if one.flow_name == "verify"]
        return [schedule.schedule.interval for schedule in one.schedules or []]

    quarter = timedelta(minutes=15)
    assert interval(deployments(quarter, frozenset())) == [quarter]
    assert interval(deployments(None, frozenset())) == []


def test_with_nothing_to_verify_it_ends_at_once(
    control: ControlDatabase, plan_id: int, told: list[dict[str, Any]]
) -> None:
    MigrationStore(control).open(plan_id)  # not cut over
    assert verify() == []
    assert told == []
    with pytest.raises(InvalidInput, match="give one of the two"):
        verify(migration_id=1, bucket="b0000")


def test_a_bucket_at_rest(
    control: ControlDatabase,
    client: SyncPrefectClient,
    servers: ThrowawayServers,
    told: list[dict[str, Any]],
) -> None:
    shard = servers.new_shard("shard-1")
    TopologyStore(control).put_shard(ShardRecord("shard-1", shard.operator_dsn, shard.application_dsn, {}))
    with pytest.raises(VerificationFailed, match="b0000 on shard-1: it is not there"):
        verify(bucket="b0000")
    (event,) = told
    assert event["event"] == "foreshard.verification.failed"
    assert (event["payload"]["bucket"], event["payload"]["findings"]) == ("b0000", 1)
    said = artifact(client, "bucket-b0000-verification")
    assert "Bucket b0000: failed, 1 finding" in said
    assert "it is not there, where the routing map says" in said
    with shard.connect() as conn:
        conn.execute("CREATE SCHEMA b0000")
    with pytest.raises(ForeshardError, match="could not be made") as unknown:
        verify(bucket="b0000")  # shard-2 may hold another copy, and does not answer
    assert not isinstance(unknown.value, VerificationFailed)
    assert "No verdict" in artifact(client, "bucket-b0000-verification")
    TopologyStore(control).put_shard(ShardRecord("shard-2", shard.operator_dsn, shard.application_dsn, {}))
    with pytest.raises(VerificationFailed, match="b0000 on shard-2: a stray copy"):
        verify(bucket="b0000")
    other = servers.new_shard("shard-2")
    TopologyStore(control).put_shard(ShardRecord("shard-2", other.operator_dsn, other.application_dsn, {}))
    assert len(verify(bucket="b0000")) == 1
    assert "Bucket b0000: passed" in artifact(client, "bucket-b0000-verification")
    assert len(told) == 2
    for one in (shard, other):
        servers.drop(one.name, one.database)


def test_a_migration_that_is_cut_over_is_looked_at_by_itself(
    control: ControlDatabase, client: SyncPrefectClient, soaking: int, told: list[dict[str, Any]]
) -> None:
    with verification.alone(control, soaking) as first:
        assert first
        assert verify() == []  # another one compares still
    assert VerificationStore(control).of(soaking) == []
    with pytest.raises(ForeshardError, match="1 of 1 verification\\(s\\) could not be made"):
        verify()
    (record,) = VerificationStore(control).of(soaking)
    assert (record.passed, record.made_by.startswith("flow run ")) == (None, True)
    assert told == []  # no verdict, no alert of one
    assert "could not be made" in artifact(client, f"migration-{soaking}-verification")


def test_migrate_stops_before_finalise_while_a_verification_stands(
    control: ControlDatabase, client: SyncPrefectClient, soaking: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_MIGRATION__SOAK_S", "0")
    monkeypatch.setattr(runners, "finish_interrupted", lambda *_: None)
    monkeypatch.setattr(runners.handover, "settle", lambda *_: None)
    monkeypatch.setattr(runners.fingerprint, "refuse_change", lambda *_: None)
    store = VerificationStore(control)
    store.finish(store.begin(soaking, None, "test"), [{"what": "b0000.orders id=1: missing"}], {})
    deployed = Deployed(migrate, client)
    run = deployed.carry_out(deployed.create(migration_id=soaking))
    assert run.state is not None
    assert run.state.is_failed()
    for word in ("check diff", "check repair", "foreshard verify", "reverse"):
        assert word in str(run.state.message), run.state.message
    record = MigrationStore(control).get(soaking)
    assert record.stage is Stage.SOAK  # from where it can still be reversed
    assert "VerificationFailed" in str(record.failure)
