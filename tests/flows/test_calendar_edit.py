"""The calendar's form: what it asks for, what it does, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.utilities.callables import parameter_schema

from flows.calendar_edit import calendar_edit
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.errors import InvalidInput
from foreshard.forecast.holiday import HolidayRegion
from tasks.calendar_editing import CalendarEdit

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


def form(**fields: Any) -> CalendarEdit:
    return CalendarEdit.model_validate(fields)


def newest_table(client: SyncPrefectClient) -> list[dict[str, str]]:
    ours = ArtifactFilter(key=ArtifactFilterKey(any_=["calendar"]))
    newest = max(client.read_artifacts(artifact_filter=ours), key=lambda one: one.created)
    assert isinstance(newest.data, str)
    return list(json.loads(newest.data))


def test_an_event_is_added_changed_and_removed(client: SyncPrefectClient, control: ControlDatabase) -> None:
    store = CalendarStore(control)
    number = calendar_edit(
        form(
            action="add",
            name='It\'s a "sale"',
            starts_at=TOMORROW.isoformat(),
            ends_at=(TOMORROW + timedelta(hours=5)).isoformat(),
            effect=1.5,
            shards=["shard-1"],
        )
    )
    (record,) = store.all()
    assert (record.id, record.source, record.event.shards) == (number, "form", frozenset({"shard-1"}))
    (row,) = newest_table(client)
    assert (row["event"], row["effect"], row["shards"], row["buckets"]) == (
        'It\'s a "sale"',
        "x 1.5",
        "shard-1",
        "",
    )
    calendar_edit(form(action="change", number=number, effect=2.0, shards=[]))
    assert (store.get(number).event.effect, store.get(number).event.shards) == (2.0, None)
    store.put_region(HolidayRegion("US", "NY"))
    calendar_edit(form(action="remove", number=number))
    assert store.all() == ()
    assert {row["source"] for row in newest_table(client)} == {"US-NY"}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"action": "add", "name": "sale"}, "starts_at"),
        ({"action": "add", "number": 3}, "number"),
        ({"action": "change", "effect": 2.0}, "number"),
        (
            {"action": "add", "name": "x", "starts_at": "2030-01-02", "ends_at": "2030-01-01", "effect": 2},
            "ends_at",
        ),
        (
            {
                "action": "add",
                "name": "x",
                "starts_at": "2030-01-01",
                "ends_at": "2030-01-02",
                "effect": 2,
                "shards": ["no"],
            },
            "shards",
        ),
    ],
)
def test_a_form_that_cannot_be_carried_out_names_the_field(
    control: ControlDatabase, fields: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        calendar_edit(form(**fields))
    assert refused.value.field == wrong
    assert CalendarStore(control).all() == ()


def test_the_form_shows_choices_and_says_what_they_mean() -> None:
    definitions = parameter_schema(calendar_edit.fn).definitions
    assert definitions["Action"]["enum"] == ["add", "change", "remove"]
    fields = definitions["CalendarEdit"]["properties"]
    assert all("description" in field for field in fields.values())
