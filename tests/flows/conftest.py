"""One Prefect server for all flow tests, and a control database on a real PostgreSQL for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments.runner import EntrypointType
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness

from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tasks.runs import DEPLOYMENT
from tests.plans import new_plan

BUCKETS = ("b0000", "b0001", "b0002", "b0003")


@pytest.fixture(scope="session", autouse=True)
def _prefect() -> Iterator[None]:
    os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def servers() -> Iterator[ThrowawayServers]:
    with ThrowawayServers() as running:
        yield running


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as connected:
        yield connected


@pytest.fixture
def control(
    servers: ThrowawayServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ControlDatabase]:
    """A control database that describes two shards (which do not exist) and four buckets on the first."""
    dsn = servers.new_control_database()
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", dsn)
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    database = ControlDatabase(dsn)
    database.migrate()
    topology = TopologyStore(database)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for name in ("shard-1", "shard-2"):
        nowhere = f"host=127.0.0.1 port=1 dbname={name} user=foreshard"
        topology.put_shard(ShardRecord(name, nowhere, nowhere, {"queries_per_s": 100.0}))
    topology.put_buckets(BUCKETS, Placement(dict.fromkeys(BUCKETS, "shard-1")))
    yield database
    database.close()


@pytest.fixture
def plan_id(control: ControlDatabase) -> int:
    """A plan that moves two buckets."""
    return new_plan(control, "shard-1", "shard-2", ["b0000", "b0001"])


class Deployed:
    """Runs of a deployment, carried out in this process as a served one would carry them out in its own.

    ``keep``: its earlier runs, which are deleted else.
    """

    def __init__(self, flow: Flow[Any, Any], client: SyncPrefectClient, *, keep: bool = False) -> None:
        self._flow, self._client = flow, client
        self._id = flow.to_deployment(DEPLOYMENT, entrypoint_type=EntrypointType.MODULE_PATH).apply()
        for earlier in [] if keep else self.runs():
            client.delete_flow_run(earlier.id)

    def create(self, **parameters: Any) -> FlowRun:
        """A scheduled run."""
        return self._client.create_flow_run_from_deployment(self._id, parameters=parameters)

    def carry_out(self, run: FlowRun) -> FlowRun:
        """Runs it from its top until it ends or suspends; returns it as the server then knows it."""
        fresh = self._client.read_flow_run(run.id)
        with suppress(Pause):  # where the process of a served run ends
            run_flow(self._flow, flow_run=fresh, parameters=fresh.parameters, return_type="state")
        return self._client.read_flow_run(run.id)

    def delete(self, run: FlowRun) -> None:
        """As retention, or a person, does."""
        self._client.delete_flow_run(run.id)

    def runs(self) -> list[FlowRun]:
        """All its runs."""
        ours = DeploymentFilter(id=DeploymentFilterId(any_=[self._id]))
        return self._client.read_flow_runs(deployment_filter=ours, limit=100)

    def call_it_running(self, run: FlowRun) -> None:
        """What Prefect goes on saying of a run whose serving process was killed."""
        self._client.set_flow_run_state(run.id, Running(), force=True)


@pytest.fixture
def migrations(client: SyncPrefectClient) -> Deployed:
    """The deployment of `migrate`."""
    from flows.migrate import migrate

    return Deployed(migrate, client)


@pytest.fixture
def before_cutover(control: ControlDatabase, plan_id: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of a migration that asks a person next; see `tests.flows.approval_case`."""
    from tests.flows.approval_case import stand_before_cutover

    return stand_before_cutover(control, plan_id, monkeypatch)
