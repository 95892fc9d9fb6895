"""A whole small installation, made of the processes that a real one has: shards, control database, Prefect's server on
PostgreSQL, `foreshard serve`. Each may be killed, and started again by the same command, as a supervisor does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.states import Cancelling
from prefect.utilities.callables import parameter_schema
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from deployments.child import Child
from deployments.prefect_server import PrefectServer
from flows.janitor import janitor
from flows.migrate import migrate
from foreshard.control.approval_store import ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.fleet.server import free_port
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.migration.failpoint import VARIABLE
from foreshard.settings import CONFIG_VARIABLE
from tasks.runs import DEPLOYMENT, has_form
from tests.integration.moving_fleet import MovingFleet

T = TypeVar("T")

SERVE = (sys.executable, "-m", "foreshard.cli", "serve")
QUICKLY = {"PREFECT_CLIENT_MAX_RETRIES": "2", "PREFECT_CLIENT_RETRY_JITTER_FACTOR": "0"}
"""A client gives up after two seconds, not after a minute: an absence of the server need not be long to outlast it."""


def database_url(dsn: str) -> str:
    """As Prefect's server wants it, for a libpq string."""
    of = conninfo_to_dict(dsn)
    return f"postgresql+asyncpg://{of['user']}@{of['host']}:{of['port']}/{of['dbname']}?passfile={of['passfile']}"


class Prefect:
    """Prefect's server. ``directory``: where its processes keep their files."""

    def __init__(self, servers: ThrowawayServers, directory: Path) -> None:
        self.server = PrefectServer(directory, database_url(servers.new_control_database()), free_port(set()))
        self._child = Child("prefect-server", directory / "run")

    def start(self) -> None:
        """By the same command each time; returns when it answers."""
        self.server.start()
        self.server.wait_until_ready()

    def start_if_away(self) -> None:
        """A test that failed may have left it dead."""
        if not self._child.is_running():
            self.start()

    def kill9(self) -> None:
        """It, and whatever it started."""
        self._child.kill9()

    def connect(self) -> SyncPrefectClient:
        """A client, as a person's browser is one. Use as a context manager."""
        return get_client(sync_client=True)


class Installation:
    """One fleet with its migration, and what carries it out. ``env``: more variables of the serving process."""

    def __init__(self, prefect: Prefect, fleet: MovingFleet, env: Mapping[str, str] = QUICKLY) -> None:
        self.prefect, self.fleet = prefect, fleet
        self.control: ControlDatabase = fleet.control
        self.store: MigrationStore = fleet.store
        self.approvals = ApprovalStore(fleet.control)
        self._serving = Child("serve", fleet.state_dir / "run")
        self._config = fleet.state_dir / "foreshard.toml"
        self._env = {VARIABLE: "", **env}

    @property
    def record(self) -> MigrationRecord:
        """The migration as it stands."""
        return self.store.get(self.fleet.migration)

    def configure(
        self, approval: Literal["cutover_only", "never"] = "cutover_only", **migration: Any
    ) -> None:
        """Write the settings file: before which flips a person is asked, and these settings of migrations.

        What is not given here is as in quick tests.
        """
        self.fleet.configure(**migration)
        self.fleet.configure_approval(before=approval)
        changed = self.fleet.settings.migration.model_dump(mode="json", exclude_unset=True) | migration
        sections: dict[str, Mapping[str, Any]] = {
            "control": {"dsn": self.control.conninfo},
            "prefect": {"api_url": self.prefect.server.api_url},
            "checks": {"docs_port": 0, "verify_every_s": 0},
            "migration": changed,
            "approval": {"before": approval},
        }
        lines = [f'state_dir = "{self.fleet.state_dir}"']
        for name, values in sections.items():
            lines += [
                f"[{name}]",
                *(f"{key} = {_toml(value)}" for key, value in values.items() if value is not None),
            ]
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    # -- its processes ----------------------------------------------------------------------------------

    def arm(self, failpoints: str) -> None:
        """What is served from now on dies at these points, once each."""
        self._env[VARIABLE] = failpoints

    def start_serving(self) -> None:
        """`foreshard serve`, as a supervisor starts it; returns when it is there for new runs."""
        self._serve(SERVE)
        self.until(self._polls, "the flows are served", 90)

    def _serve(self, command: Sequence[str]) -> None:
        if not self._config.exists():
            self.configure()
        env = {**self.prefect.server.client_environment(), CONFIG_VARIABLE: str(self._config), **self._env}
        self._serving.start(command, env)

    def kill_serving(self) -> None:
        """kill -9 of the serving process and of every run that it carries out."""
        self._serving.kill9()

    def kill_only_serving(self) -> None:
        """kill -9 of the serving process alone: its runs are orphans."""
        self._process().kill()

    def is_serving(self) -> bool:
        """Whether the serving process lives. Without Prefect's server it may give up by itself."""
        return self._serving.is_running()

    def is_driven(self) -> bool:
        """Whether some runner holds the migration's lease."""
        with self.control.transaction() as session:
            query = (
                "SELECT coalesce(lease_expires_at > clock_timestamp(), false) FROM migrations WHERE id = :id"
            )
            return bool(session.scalar(text(query), {"id": self.fleet.migration}))

    def stop(self) -> None:
        """At the end of a test."""
        self._serving.stop(patience_s=2)

    def log(self) -> str:
        """What the serving process and its runs said."""
        return self._serving.log.read_text(errors="replace") if self._serving.log.exists() else ""

    # -- what a person or a schedule does ---------------------------------------------------------------

    def start(self, flow: str, **parameters: Any) -> UUID:
        """Start a run as the UI's button does."""
        with self.prefect.connect() as client:
            deployment = client.read_deployment_by_name(f"{flow}/{DEPLOYMENT}")
            return client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id

    def janitor(self) -> None:
        """The janitor's turn, which its schedule gives it once a minute; returns when it has ended."""
        run = self.start("janitor")
        self.until(lambda: self._ended(run), "the janitor's end", 120)

    def cancel(self, run: UUID) -> None:
        """As the button in the UI does."""
        with self.prefect.connect() as client:
            client.set_flow_run_state(run, Cancelling())

    def answer(self, decision: str = "approve", approver: str = "Ada") -> UUID:
        """Fill in the form of the run that waits and send it, when it waits; returns that run's id."""
        run = self.until(self.suspended, "a run that waits for a person", 120)
        with self.prefect.connect() as client:
            answered = client.resume_flow_run(
                run.id, run_input={"decision": decision, "approver": approver, "comment": ""}
            )
        assert answered.status.value == "ACCEPT", answered
        return run.id

    def state_of(self, run: UUID) -> State:
        """As Prefect says it."""
        with self.prefect.connect() as client:
            state = client.read_flow_run(run).state
        assert state is not None
        return state

    def runs(self, flow: str = "migrate") -> list[FlowRun]:
        """All runs of a flow, oldest first."""
        with self.prefect.connect() as client:
            found = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
                deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT])),
                limit=200,
            )
        return sorted(found, key=lambda run: run.created or run.expected_start_time)

    def forget_runs(self) -> None:
        """Delete what an earlier test left in Prefect's database."""
        with self.prefect.connect() as client:
            for run in client.read_flow_runs(limit=200):
                client.delete_flow_run(run.id)

    def until(self, look: Callable[[], T], what: str, timeout_s: float = 60) -> T:
        """What ``look`` finds at last. Prefect's server may be away meanwhile."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = look()
            except (httpx.HTTPError, ObjectNotFound):
                found = None  # type: ignore[assignment]
            if found:
                return found
            assert time.monotonic() < deadline, (
                f"waited {timeout_s} s for {what}\n{self.record}\n{self.log()[-3000:]}"
            )
            time.sleep(0.1)

    def _ended(self, run: UUID) -> bool:
        return self.state_of(run).is_final()

    def suspended(self) -> FlowRun | None:
        """The run that waits for a person now and can be answered: its form is stored after it has suspended."""
        number = self.record.flow_run_id
        if self.record.waiting_for is None or number is None:
            return None
        with self.prefect.connect() as client:
            run = client.read_flow_run(UUID(number))
            if run.state is None or not run.state.is_paused() or not has_form(client, run.id, run.state):
                return None
        return run

    def _polls(self) -> bool:
        """Whether the serving process asks for runs: it has then registered all its deployments."""
        with self.prefect.connect() as client:
            deployment = client.read_deployment_by_name(f"janitor/{DEPLOYMENT}")
        started = self._process().create_time()
        return deployment.last_polled is not None and deployment.last_polled.timestamp() > started

    def _process(self) -> psutil.Process:
        process = self._serving.process()
        assert process is not None, f"the serving process is gone\n{self.log()[-3000:]}"
        return process


class PoolInstallation(Installation):
    """The same with a worker of a work pool in the place of `foreshard serve`."""

    POOL = "survival"
    COMMAND = (sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", POOL)

    def start_serving(self) -> None:
        """A worker; flows are deployed to its pool the first time."""
        with self.prefect.connect() as client:
            if not client.read_work_pools():
                client.create_work_pool(WorkPoolCreate(name=self.POOL, type="process"))
                for flow in (migrate, janitor):
                    self._deploy(client, flow)
        self._serve(self.COMMAND)
        self.until(self._is_online, "the worker is there", 90)

    def stop(self) -> None:
        """Also: what other tests deploy is to be served, not for a pool."""
        super().stop()
        with self.prefect.connect() as client:
            for deployment in client.read_deployments():
                client.delete_deployment(deployment.id)

    def _deploy(self, client: SyncPrefectClient, flow: Flow[Any, Any]) -> None:
        client.create_deployment(
            client.create_flow(flow),
            DEPLOYMENT,
            work_pool_name=self.POOL,
            entrypoint=f"flows.{flow.name}.{flow.name}",
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
            pull_steps=[],
        )

    def _is_online(self) -> bool:
        since = self._process().create_time()
        with self.prefect.connect() as client:
            workers = client.read_workers_for_work_pool(self.POOL)
        return any(one.last_heartbeat_time and one.last_heartbeat_time.timestamp() > since for one in workers)


def _toml(value: object) -> str:
    """Strings, numbers and lists of them are written alike in TOML and JSON."""
    return json.dumps(value)


def spent(state_dir: Path, failpoint: str) -> bool:
    """Whether a failpoint has killed."""
    return (state_dir / "failpoints" / failpoint).exists()
