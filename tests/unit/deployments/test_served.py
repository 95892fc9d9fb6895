"""One table of what is deployed: the same for `foreshard serve`, `prefect.yaml` and `foreshard doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel

from deployments import registering
from deployments.served import FORECAST_COMPLETED, NAME, SERVED, TAG, Served, served
from foreshard import cli_doctor
from foreshard.settings import load_settings
from tasks import events, runs

FILE = Path(__file__).resolve().parents[3] / "deployments" / "prefect.yaml"


def written() -> dict[str, dict[str, Any]]:
    """The deployments of the file, by entrypoint."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    PrefectYamlModel.model_validate(document)
    assert document["pull"] == []
    return {one["entrypoint"]: one for one in document["deployments"]}


def drift(known: Mapping[str, dict[str, Any]]) -> list[str]:
    """In what a file's deployments are not the table's."""
    found = [f"{name}: is not in the table" for name in known.keys() - {one.entrypoint for one in SERVED}]
    for one in SERVED:
        if one.entrypoint not in known:
            found.append(f"{one.name}: is not in the file")
            continue
        file, table = known[one.entrypoint], _as_written(one)
        found += [
            f"{one.name}: {key}" for key in table.keys() | file.keys() if table.get(key) != file.get(key)
        ]
    return found


def _as_written(one: Served) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": NAME,
        "entrypoint": one.entrypoint,
        "tags": one.tags,
        "work_pool": {"name": "foreshard"},
    }
    if one.at_once is not None:
        options["concurrency_limit"] = {
            "limit": one.at_once.runs,
            "collision_strategy": one.at_once.collision,
        }
    if one.schedule is not None:
        options["schedules"] = [
            {
                "interval": one.schedule.every.total_seconds(),
                "anchor_date": one.schedule.anchor.isoformat(),
                "timezone": "UTC",
                "active": True,
            }
        ]
    if one.after_event is not None:
        options["triggers"] = [
            {
                "type": "event",
                "enabled": True,
                "name": one.trigger_name,
                "description": f"Starts {one.name} at each event {one.after_event}.",
                "expect": [one.after_event],
            }
        ]
    return options


def test_the_file_is_the_table() -> None:
    assert drift(written()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tags", ["foreshard"]),
        ("concurrency_limit", {"limit": 2, "collision_strategy": "ENQUEUE"}),
        ("schedules", []),
        ("work_pool", {"name": "other"}),
        ("parameters", {"x": 1}),
    ],
)
def test_a_file_that_drifts_is_found(key: str, value: Any) -> None:
    known = written()
    known["flows.collect.collect"][key] = value
    assert drift(known) == [f"collect: {key}"]


def test_names_are_those_that_the_rest_of_the_code_knows() -> None:
    assert NAME == runs.DEPLOYMENT
    assert {one.name for one in SERVED} == set(runs.FLOWS)
    assert FORECAST_COMPLETED == events.FORECAST_COMPLETED


@pytest.mark.parametrize("one", SERVED, ids=lambda one: one.name)
def test_what_is_registered_is_the_table(one: Served) -> None:
    made = registering.deployment(one)
    assert registering.flow_of(one).name == made.flow_name == one.name
    assert made.entrypoint == one.entrypoint
    assert made.description, "from the flow's docstring"
    assert made.tags[0] == TAG
    assert made.tags[1] in ("observe", "plan", "move", "check", "keep")
    assert made.concurrency_limit == (one.at_once.runs if one.at_once else None)
    assert [trigger.name for trigger in made.triggers] == ([one.trigger_name] if one.after_event else [])
    (schedule,) = made.schedules or [None]
    assert (schedule is None) == (one.schedule is None)


def test_a_schedule_that_somebody_paused_is_registered_asleep() -> None:
    collect = next(one for one in SERVED if one.name == "collect")
    for active in (True, False):
        assert [one.active for one in registering.deployment(collect, active=active).schedules or ()] == [
            active
        ]


def test_schedules_neither_move_with_restarts_nor_begin_together() -> None:
    scheduled = [one.schedule for one in SERVED if one.schedule is not None]
    assert all(one.anchor < datetime(2021, 1, 1, tzinfo=UTC) for one in scheduled)
    assert (
        len({one.offset % timedelta(minutes=1) for one in scheduled if one.every <= timedelta(minutes=1)})
        == 2
    )
    assert next(one.schedule.every for one in SERVED if one.name == "forecast" and one.schedule) == timedelta(
        hours=1
    )


def test_a_migration_is_not_ended_by_a_limit() -> None:
    assert [one.name for one in SERVED if one.kind == "move" and one.at_once] == []


def test_verify_runs_as_the_settings_say() -> None:
    by_name = {one.name: one for one in served(timedelta(minutes=5))}
    assert by_name["verify"].schedule is not None
    assert by_name["verify"].schedule.every == timedelta(minutes=5)
    assert {one.name: one for one in served(None)}["verify"].schedule is None


def test_the_doctor_expects_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "dbname=foreshard")
    monkeypatch.setenv("FORESHARD_CHECKS__VERIFY_EVERY_S", "0")
    expected = {one.name: one for one in cli_doctor.expected(load_settings())}
    assert expected.keys() == {one.name for one in SERVED}
    assert expected["verify"].interval_s is None
    assert expected["collect"].interval_s == 60
    assert expected["decide"].automation == "decide after forecast"
