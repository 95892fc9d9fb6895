"""`prefect deploy` of deployments/prefect.yaml to a process work pool, and a worker that runs from it."""

from __future__ import annotations

import sys

import pytest

from deployments.served import SERVED
from tests.installation.conftest import Installation, until

pytestmark = pytest.mark.slow

POOL = "foreshard"


def prefect(installation: Installation, *arguments: str) -> None:
    """As docs/deploying.md says it."""
    said = installation.call(sys.executable, "-m", "prefect", "--no-prompt", *arguments)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_pool_is_deployed_twice_and_runs(installation: Installation) -> None:
    prefect(installation, "work-pool", "create", POOL, "--type", "process")
    for _ in range(2):
        prefect(installation, "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    known = installation.deployments()
    assert known.keys() == {one.name for one in SERVED}
    for one in SERVED:
        registered = known[one.name]
        assert registered["work_pool_name"] == POOL
        assert registered["pull_steps"] == []
        assert registered["description"]
        assert len(registered["schedules"]) == (1 if one.schedule else 0)
    owned = [one["name"] for one in installation.post("/automations/filter")]
    assert owned.count("decide after forecast") == 1
    unheard = [one["what"] for one in installation.doctor("--only", "deployments")]
    assert "no worker of pool foreshard was heard of ever" in unheard

    with installation.running("worker", "prefect", "worker", "start", "--pool", POOL):
        done = {flow: installation.completed(flow) for flow in ("collect", "janitor")}
        for flow in done:
            installation.start(flow)
        for flow, before in done.items():
            until(f"a run of {flow} to complete", lambda: installation.completed(flow) > before)  # noqa: B023
        # From a worker each run is a process of its own, started in a directory of its own.
        found = installation.doctor("--only", "deployments")
        assert [one["severity"] for one in found] == ["ok"], found
