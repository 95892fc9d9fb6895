"""The form of the policy: every number, in an order, with unit, range and what is built in, in both UIs."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import is_valid, validate
from pydantic import ValidationError

from foreshard.planning.policy import DecisionPolicy
from tasks.policy_form import ORDER, PolicyOverrides, title

FIELDS: dict[str, Any] = PolicyOverrides.model_json_schema()["properties"]


def test_every_number_of_the_policy_has_its_place() -> None:
    assert set(FIELDS) == set(DecisionPolicy.model_fields) == set(ORDER)
    assert sorted(ORDER, key=lambda name: FIELDS[name]["position"]) == list(ORDER)
    assert len(ORDER) == len(set(ORDER))


def test_titles_name_group_and_unit() -> None:
    assert FIELDS["migration_threshold"]["title"] == "Risk: migration threshold"
    assert title("cooldown_s") == "Buckets: cooldown (seconds)"
    assert title("copy_bytes_per_s") == "Rates: copy (bytes/s)"
    assert "Allowed: above 0 to 1; built in: 0.8." in FIELDS["knee"]["description"]


def test_numbers_are_inputs_that_may_stay_empty_and_choices_say_what_empty_means() -> None:
    knee = FIELDS["knee"]
    assert (knee["type"], knee["maximum"], "default" in knee) == ("number", 1, False)
    assert [one["title"] for one in FIELDS["start"]["anyOf"]] == ["another", "as the standing policy"]
    assert FIELDS["start"]["anyOf"][0]["enum"] == ["trough", "now"]
    assert FIELDS["predicted_quantile"]["anyOf"][0]["enum"] == [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]


def test_the_server_takes_what_the_forms_send() -> None:
    """V2 sends null for each field that was left empty."""
    schema = PolicyOverrides.model_json_schema()
    assert is_valid(dict.fromkeys(ORDER), schema)
    assert is_valid(
        {"knee": 0.75, "start": "now", "windows": ["Mon-Fri 22:00-06:00"], "pins": {"b0": "s"}}, schema
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("knee", 1.2), ("migration_threshold", -0.1), ("predicted_quantile", 0.93), ("start", "soon"), ("knee", "a"),
     ("max_migrations", 1.5), ("kneee", 0.5)],
)  # fmt: skip
def test_the_server_refuses_a_wrong_value_before_a_run_starts(field: str, value: object) -> None:
    assert validate({field: value}, PolicyOverrides.model_json_schema())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.2])
def test_the_run_refuses_what_no_schema_can(value: float) -> None:
    with pytest.raises(ValidationError, match="knee"):
        PolicyOverrides(knee=value)


def test_only_what_was_filled_in_is_given() -> None:
    assert PolicyOverrides(knee=0.5, windows=None).given() == {"knee": 0.5}
