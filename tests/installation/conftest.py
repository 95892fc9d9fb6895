"""A whole installation: control database, two shards, a Prefect server on PostgreSQL, all real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict

from deployments.child import Child
from deployments.prefect_server import PrefectServer
from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.server import free_port
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], timeout_s: float = 180.0) -> T:
    """What ``look`` finds at last."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {timeout_s:g} s for {what}")


@dataclass(frozen=True)
class Installation:
    """Everything but the processes that run flows. ``environment`` is theirs."""

    environment: Mapping[str, str]
    directory: Path
    prefect: PrefectServer
    shards: tuple[ShardDatabase, ...]
    control_dsn: str

    def call(self, *argv: str, timeout_s: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in the repository's root, to its end."""
        return subprocess.run(
            argv,
            cwd=ROOT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def foreshard(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The command line."""
        return self.call(sys.executable, "-m", "foreshard.cli", *arguments, **variables)

    def doctor(self, *arguments: str, **variables: str) -> list[dict[str, str]]:
        """What it finds."""
        said = self.foreshard("doctor", "--json", *arguments, **variables)
        assert said.stdout, said.stderr
        found: list[dict[str, str]] = json.loads(said.stdout)
        wrong = any(one["severity"] == "wrong" for one in found)
        assert said.returncode == (1 if wrong else 0)
        return found

    @contextmanager
    def running(self, name: str, *argv: str, **variables: str) -> Iterator[Child]:
        """A process that is stopped at the end, as Ctrl-C would."""
        child = Child(name, self.directory / "run")
        child.start([sys.executable, "-m", *argv], {**self.environment, **variables})
        try:
            yield child
        finally:
            child.stop()

    def post(self, path: str, **body: Any) -> Any:
        """A question to Prefect's API."""
        answer = httpx.post(f"{self.prefect.api_url}{path}", json=body, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def deployments(self) -> dict[str, dict[str, Any]]:
        """By the flow's name."""
        flows = {one["id"]: one["name"] for one in self.post("/flows/filter")}
        return {flows[one["flow_id"]]: one for one in self.post("/deployments/filter")}

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """All that are not merely scheduled, newest first."""
        found = self.post(
            "/flow_runs/filter",
            flows={"name": {"any_": [flow]}},
            flow_runs={"state": {"type": {"not_any_": ["SCHEDULED"]}}},
            sort="START_TIME_DESC",
        )
        return list(found)

    def completed(self, flow: str) -> int:
        """How many runs of it have completed. One that was started by hand may be cancelled for a scheduled one."""
        return sum(run["state"]["type"] == "COMPLETED" for run in self.runs(flow))

    def start(self, flow: str, **parameters: Any) -> str:
        """Starts a run and returns its id."""
        deployment = self.deployments()[flow]["id"]
        made = self.post(f"/deployments/{deployment}/create_flow_run", parameters=parameters)
        return str(made["id"])

    def state(self, run: str) -> dict[str, Any]:
        """The state of a run."""
        answer = httpx.get(f"{self.prefect.api_url}/flow_runs/{run}", timeout=20)
        state: dict[str, Any] = answer.json()["state"]
        return state


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("installation")
    with ThrowawayServers() as servers:
        dsn = servers.new_control_database()
        shards = tuple(servers.new_shard(name) for name in ("shard-1", "shard-2"))
        _describe(dsn, shards)
        database = conninfo_to_dict(servers.new_control_database())
        url = (
            f"postgresql+asyncpg://{database['user']}@127.0.0.1:{database['port']}/{database['dbname']}"
            f"?passfile={servers.directory / 'pgpass'}"
        )
        prefect = PrefectServer(directory, url, free_port(set()))
        environment = {
            name: value for name, value in prefect.client_environment().items() if "FORESHARD" not in name
        } | {
            "FORESHARD_CONTROL__DSN": dsn,
            "FORESHARD_PREFECT__API_URL": prefect.api_url,
            "FORESHARD_STATE_DIR": str(directory / "state"),
            "FORESHARD_CHECKS__DOCS_PORT": "0",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
        }
        prefect.start()
        try:
            prefect.wait_until_ready()
            yield Installation(environment, directory, prefect, shards, dsn)
        finally:
            prefect.stop()


def _describe(dsn: str, shards: tuple[ShardDatabase, ...]) -> None:
    """A fleet with one bucket on the first shard, ready for migrations."""
    control = ControlDatabase(dsn)
    control.migrate()
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for shard in shards:
        record = ShardRecord(
            shard.name,
            shard.operator_dsn,
            shard.application_dsn,
            {"queries_per_s": 100.0, "disk_bytes": 1e13},
        )
        topology.put_shard(record)
        with connect(shard.operator_dsn) as conn:
            guard.install(conn)
    with shards[0].connect() as conn:
        conn.execute("SET ROLE airline")
        conn.execute("CREATE SCHEMA b0000")
        conn.execute("CREATE TABLE b0000.orders (customer text PRIMARY KEY)")
    topology.put_buckets(("b0000",), Placement({"b0000": "shard-1"}))
    control.close()
