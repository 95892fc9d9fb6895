"""`foreshard serve` on a real Prefect server: what it registers, and what becomes of runs when it is stopped."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from deployments.child import Child
from deployments.served import SERVED
from deployments.stopped_runs import RUN_VARIABLE
from tests.installation.conftest import Installation, until

pytestmark = pytest.mark.slow

PAUSED = ("forecast", "verify")
"""As a person may. A forecast on its schedule, at some minute of the hour, would have `decide` started once more."""


def served(child: Child) -> None:
    """Waits until it says that it serves."""
    until("it to serve", lambda: child.require_running() or "Serving the flows" in child.log.read_text())


def pid_of(child: Child) -> int:
    """Its process's id."""
    return int(json.loads((child.run_dir / f"{child.name}.pid").read_text())["pid"])


def process_of(run: str, child: Child) -> int | None:
    """The run's process, once there is one."""
    for process in psutil.Process(pid_of(child)).children(recursive=True):
        with suppress(psutil.Error):
            if process.environ().get(RUN_VARIABLE) == run:
                return int(process.pid)
    return None


def event() -> dict[str, Any]:
    """As a forecast tells that it is complete."""
    return {
        "occurred": "2026-01-01T00:00:00+00:00",
        "event": "foreshard.forecast.completed",
        "resource": {"prefect.resource.id": "foreshard.forecast.1"},
        "payload": {"forecast_run": 1, "series": 1},
        "id": str(uuid4()),
    }


def schedule(installation: Installation, deployment: dict[str, Any], *, active: bool) -> None:
    """As the switch in the UI does."""
    httpx.patch(
        f"{installation.prefect.api_url}/deployments/{deployment['id']}/schedules/"
        f"{deployment['schedules'][0]['id']}",
        json={"active": active},
    ).raise_for_status()


def _taken(installation: Installation) -> int:
    """Places of collect that Prefect believes are held."""
    return int(installation.deployments()["collect"]["global_concurrency_limit"]["active_slots"])


def test_what_is_served_is_told_and_stopped_without_harm(installation: Installation) -> None:
    with installation.running("serve", "foreshard.cli", "serve") as child:
        served(child)
        known = installation.deployments()
        assert known.keys() == {one.name for one in SERVED}
        for name in PAUSED:
            schedule(installation, known[name], active=False)
        run = installation.start("forecast")
        process = until("the run's process", lambda: process_of(run, child))
        os.kill(pid_of(child), signal.SIGTERM)
        until("it to end", lambda: not child.is_running())
        assert not psutil.pid_exists(process)
    state = installation.state(run)
    # Not CANCELLED, which the janitor leaves to people. In whose words depends on how far it had come.
    assert state["type"] == "CRASHED", state

    # A place that no run holds: as after Prefect's server died together with a run.
    limit = known["collect"]["global_concurrency_limit"]["id"]
    httpx.patch(
        f"{installation.prefect.api_url}/v2/concurrency_limits/{limit}", json={"active_slots": 1}
    ).raise_for_status()
    found = [one["what"] for one in installation.doctor("--only", "deployments")]
    assert any("1 of 1 place(s) of collect are held by no run" in what for what in found)
    with installation.running("serve-again", "foreshard.cli", "serve") as child:
        served(child)
        again = installation.deployments()
        until(
            "the place to be free", lambda: _taken(installation) == 0
        )  # a run of it may be under way just now
        for name in PAUSED:
            assert not again[name]["schedules"][0]["active"], "a schedule that somebody paused stays paused"
        automations = [one["name"] for one in installation.post("/automations/filter")]
        assert automations.count("decide after forecast") == 1
        assert len(set(automations)) == len(automations)
        before = len(installation.runs("decide"))
        twice = event()
        httpx.post(f"{installation.prefect.api_url}/events", json=[twice, twice]).raise_for_status()
        until("decide to be started", lambda: len(installation.runs("decide")) > before)
        httpx.post(f"{installation.prefect.api_url}/events", json=[twice]).raise_for_status()
        done = installation.completed("collect")
        installation.start("collect")
        until("the next run of collect", lambda: installation.completed("collect") > done)
        assert len(installation.runs("decide")) == before + 1
        whole = installation.doctor()
        assert [one["what"] for one in whole if one["severity"] == "wrong"] == []
        assert [one["what"] for one in whole if one["severity"] == "warn"] == [
            *(f"the schedule of {name} is paused" for name in PAUSED),
            "alerts notify nobody: no block is named",
        ]
        for name in PAUSED:
            schedule(installation, again[name], active=True)


def test_it_waits_for_prefect_and_says_so(installation: Installation) -> None:
    said = installation.foreshard(
        "serve",
        "--wait",
        "1",
        FORESHARD_PREFECT__API_URL="http://127.0.0.1:1/api",
    )
    assert said.returncode == 1
    assert "does not answer yet; waiting up to 1 s" in said.stderr
    assert "did not answer within 1 s" in said.stderr
    assert "Traceback" not in said.stderr
