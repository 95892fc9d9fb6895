"""The calendar's form: one event added, changed or removed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from foreshard.calendar.draft import Draft
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import EventKind, overlapping
from foreshard.settings import Settings
from tasks.form_fields import Choice

EMPTY = "nothing"


class Action(StrEnum):
    """What to do with an event."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


class CalendarEdit(BaseModel):
    """What the form asks for. Of a change, what is left empty stays as it is."""

    model_config = ConfigDict(extra="forbid")

    action: Action = Field(
        description="Add a new event; change or remove the one of the number below.",
        json_schema_extra={"position": 0},
    )
    number: Annotated[int | None, Choice("number", "none")] = Field(
        default=None,
        ge=1,
        description="Of the event to change or remove: see the artifact calendar.",
        json_schema_extra={"position": 1},
    )
    name: Annotated[str | None, Choice("name", EMPTY)] = Field(
        default=None, max_length=200, description="What it is called.", json_schema_extra={"position": 2}
    )
    kind: Annotated[EventKind | None, Choice("kind", EMPTY)] = Field(
        default=None,
        title="Kind",
        description="A holiday needs no effect: it is learnt. In a blackout no migration runs. A new event that says"
        " nothing is a promotion.",
        json_schema_extra={"position": 3},
    )
    starts_at: Annotated[datetime | None, Choice("time", EMPTY)] = Field(
        default=None,
        description="Without an offset it is a time of the fleet's zone (clock.timezone).",
        json_schema_extra={"position": 4},
    )
    ends_at: Annotated[datetime | None, Choice("time", EMPTY)] = Field(
        default=None, description="After the start; likewise.", json_schema_extra={"position": 5}
    )
    effect: Annotated[float | None, Choice("factor", EMPTY)] = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Load as a multiple of what is common: 1.35 is 35 % more, 0.5 half of it. A promotion"
        " needs it.",
        json_schema_extra={"position": 6},
    )
    shards: Annotated[list[str] | None, Choice("some", EMPTY)] = Field(
        default=None,
        description="Only these shards. Neither shards nor buckets: the whole fleet.",
        json_schema_extra={"position": 7},
    )
    buckets: Annotated[list[str] | None, Choice("some", EMPTY)] = Field(
        default=None, description="Only these buckets.", json_schema_extra={"position": 8}
    )

    def draft(self) -> Draft:
        """The event's own fields."""
        return Draft(
            self.name,
            None if self.starts_at is None else self.starts_at.isoformat(),
            None if self.ends_at is None else self.ends_at.isoformat(),
            self.effect,
            self.shards,
            self.buckets,
            self.kind,
        )


@task(name="edit calendar", cache_policy=NO_CACHE)
def edit(control: ControlDatabase, settings: Settings, form: CalendarEdit) -> int:
    """Carries the form out; returns the event's number. Raises ``InvalidInput`` naming the form's field."""
    logger = get_run_logger()
    store, timezone = CalendarStore(control), ZoneInfo(settings.clock.timezone)
    if form.action is Action.ADD:
        if form.number is not None:
            raise InvalidInput(
                "number", "a new event has none yet.", remedy="Leave it empty, or choose change."
            )
        record = store.add(form.draft().event(timezone), "form")
    elif form.number is None:
        raise InvalidInput(
            "number", "is missing.", remedy="The artifact `calendar` shows the events' numbers."
        )
    elif form.action is Action.CHANGE:
        record = store.change(
            form.number, form.draft().applied_to(store.get(form.number).event, timezone), "form"
        )
    else:
        record = store.remove(form.number)
        logger.info("Event %d is removed: %s", record.id, record.event.name)
        return record.id
    begin, end = (one.astimezone(timezone) for one in (record.event.starts_at, record.event.ends_at))
    logger.info("Event %d: %s from %s until %s in %s", record.id, record.event.name, begin, end, timezone.key)
    for other in overlapping(record.event, [one.event for one in store.all() if one.id != record.id]):
        logger.warning("It overlaps %s: their effects multiply", other.name)
    return record.id
