"""`foreshard pause, resume, abort, reverse, watch` on a real migration, without any Prefect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from foreshard import cli_steer, cli_watch
from foreshard.cli import app
from foreshard.control.request_store import RequestStore
from foreshard.migration import sight
from foreshard.migration.lifecycle import Stage
from foreshard.migration.requests import Ask, Outcome
from tests.integration.moving_fleet import MovingFleet, wait_until
from tests.integration.steered_runner import driving


@pytest.fixture
def commanded(fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch) -> MovingFleet:
    """The fleet as the command line finds it."""
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", fleet.control.conninfo)
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(fleet.state_dir))
    for name in ("FORESHARD_CONFIG", "FORESHARD_PREFECT__API_URL", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(fleet.state_dir)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    return fleet


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def document(*arguments: str) -> dict[str, Any]:
    said = call(*arguments, "--json")
    assert said.exit_code == 0, said.output
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_a_canary_is_looked_at_held_and_taken_back_from_a_shell(
    commanded: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = str(commanded.migration)
    commanded.run_until(Stage.CUTOVER)
    requests = RequestStore(commanded.control)

    for refused, word in (
        (("pause", number, "--as", " "), "--as"),
        (("resume", number, "--as", "Ada"), "is not paused"),
        (("abort", "999", "--as", "Ada"), "no migration 999"),
    ):
        said = call(*refused)
        assert said.exit_code in (1, 2)
        assert word in said.stderr
    foreseen = document("abort", number, "--as", "Ada", "--dry-run")
    assert (foreseen["stage"], foreseen["slots_back"], foreseen["ends_as"]) == ("cutover", 512, "aborted")
    assert {"slot", "subscription", "publication", "copy"} <= {one["kind"] for one in foreseen["removed"]}
    told = call("abort", number, "--as", "Ada", "--dry-run").stdout
    assert "512 of 1024 slots (50 %) back to source" in told
    assert requests.of(commanded.migration) == []

    held = document("pause", number, "--as", "Ada", "--comment", "lunch")
    assert (held["held"], held["stage"]) == (True, "cutover")
    assert "Asked already" in call("pause", number, "--as", "Bob").stderr

    looked: list[str] = []

    def leave(_: float) -> None:
        looked.append("once")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cli_watch.time, "sleep", leave)
        watched = call("watch", number)
    assert watched.exit_code == 130
    assert "the migration goes on" in watched.stderr
    assert "waits for somebody to resume it (pause, asked by Ada" in watched.stdout

    resumed = call("resume", number, "--as", "Bob")
    assert resumed.exit_code == 0
    assert "Prefect could not be told" in resumed.stdout
    (pause, _) = requests.of(commanded.migration)
    assert (pause.outcome, pause.settled_by) == (Outcome.RESUMED, "Bob")

    done = document("reverse", number, "--as", "Ada")
    assert (done["stage"], done["outcome"]) == ("aborted", "done")
    assert commanded.leftovers() == []
    ended = call("watch", number)
    assert ended.exit_code == 1
    assert "aborting finished" in ended.stdout
    (line,) = call("watch", number, "--json").stdout.splitlines()
    assert json.loads(line)["stage"] == "aborted"
    late = call("reverse", number, "--as", "Ada")
    assert late.exit_code == 1
    assert "has ended" in late.stderr
    assert call("watch").stdout.strip() == "No migration is under way."


def test_a_driver_is_waited_for_and_ctrl_c_leaves_the_request(
    commanded: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = str(commanded.migration)
    commanded.configure(soak_s=120.0)
    commanded.run_until(Stage.SOAK)
    with driving(commanded) as driver:
        wait_until(lambda: bool(driver.reports), "the soak")
        aborted = call("abort", number, "--as", "Ada")
        assert aborted.exit_code == 1
        assert f"foreshard reverse {number}" in aborted.stderr

        def leave(_: float) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(cli_steer, "time", type("time", (), {"sleep": staticmethod(leave)}))
            left = call("pause", number, "--as", "Ada")
        assert left.exit_code == 130
        assert "the request stands" in left.stderr
        held = document("pause", number, "--as", "Bob")
        assert held["held"]
        assert held["asked_by"] == "Ada"
        driver.join()
    done = call("reverse", number, "--as", "Ada")
    assert done.exit_code == 0, done.output
    assert f"Migration {number} is reversed" in done.stdout
    asked = [(one.kind, one.outcome) for one in RequestStore(commanded.control).of(commanded.migration)]
    assert asked == [(Ask.PAUSE, Outcome.REPLACED), (Ask.REVERSE, Outcome.DONE)]
    assert commanded.leftovers() == []


def test_watch_says_that_the_control_database_is_away_and_goes_on(
    commanded: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    commanded.run_until(Stage.PREPARE)
    look, looks = sight.Watcher.look, 0

    def sometimes(watcher: sight.Watcher, number: int) -> sight.Sight:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise OperationalError("SELECT", {}, Exception("gone"))
        if looks == 4:
            commanded.run_until(None)
        return look(watcher, number)

    monkeypatch.setattr(sight.Watcher, "look", sometimes)
    said = call("watch", "--every", "0.2")
    assert said.exit_code == 0, said.output
    assert "has not answered" in said.stdout
    assert "answers again" in said.stdout
    assert "at done" in said.stdout
