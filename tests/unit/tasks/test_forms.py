"""The forms of all flows: every parameter has its help, an empty one says what empty means, a wrong one is refused."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows.calendar_edit import calendar_edit
from flows.collect import collect
from flows.decide import decide
from flows.forecast import forecast
from flows.janitor import janitor
from flows.migrate import migrate
from flows.reverse import reverse
from flows.verify import verify

FLOWS: list[Flow[Any, Any]] = [calendar_edit, collect, decide, forecast, janitor, migrate, reverse, verify]


def schema(flow: Flow[Any, Any]) -> dict[str, Any]:
    return parameter_schema(flow).model_dump_for_openapi()


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_parameter_has_help_and_a_place(flow: Flow[Any, Any]) -> None:
    for name, field in schema(flow).get("properties", {}).items():
        assert field.get("description"), name
        assert "position" in field, name
        titles = [one.get("title") for one in field.get("anyOf", ())]
        assert all(titles), f"{name}: the UIs would show a type, such as NoneType"


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_descriptions_are_markdown(flow: Flow[Any, Any]) -> None:
    """What is shown of a deployment is the docstring: its first sentence says what the flow does."""
    said = flow.description or ""
    assert said.splitlines()[0].endswith(".")
    assert "Args:" not in said, "it would be one paragraph"


@pytest.mark.parametrize(
    ("flow", "parameters"),
    [
        (forecast, {"horizon_hours": 0}),
        (forecast, {"horizon_hours": 400}),
        (forecast, {"step_minutes": 7}),
        (forecast, {"models": ["arima"]}),
        (forecast, {"metrics": ["CPU cores"]}),
        (decide, {"policy": {"knee": 1.5}}),
        (decide, {"policy": {"migration_threshold": "much"}}),
        (decide, {"forecast_id": 0}),
        (migrate, {"migration_id": -1}),
        (migrate, {"plan_id": "first"}),
        (reverse, {"migration_id": -1}),
        (reverse, {}),
        (verify, {"migration_id": 0}),
        (verify, {"bucket": ""}),
        (janitor, {"dry_run": "perhaps"}),
        (calendar_edit, {"form": {"action": "destroy"}}),
        (calendar_edit, {"form": {"action": "add", "effect": 0}}),
        (calendar_edit, {"form": {"action": "add", "kind": "party"}}),
    ],
)
def test_a_wrong_value_is_refused_before_a_run_starts(
    flow: Flow[Any, Any], parameters: dict[str, Any]
) -> None:
    assert validate(parameters, schema(flow))


@pytest.mark.parametrize(
    ("flow", "parameters"),
    [
        (forecast, {"horizon_hours": None, "step_minutes": None, "metrics": None, "models": None}),
        (forecast, {"horizon_hours": 0.25, "step_minutes": 15, "metrics": ["cpu_cores"], "models": ["ets"]}),
        (decide, {"policy": {"knee": None, "start": None}, "dry_run": True, "forecast_id": None}),
        (migrate, {"plan_id": 5, "migration_id": None}),
        (verify, {"migration_id": None, "bucket": None}),
        (calendar_edit, {"form": {"action": "add", "name": "Sale", "number": None, "effect": None}}),
    ],
)
def test_the_server_takes_what_the_forms_send(flow: Flow[Any, Any], parameters: dict[str, Any]) -> None:
    assert validate(parameters, schema(flow)) == []
