"""What is deployed: the one table that `foreshard serve` registers and `prefect.yaml` repeats for work pools.

A flow's description is its docstring. Entrypoints are module paths (`flows.forecast.forecast`), which work from any
directory. Nothing of Prefect is imported here: `foreshard doctor` reads the table too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

Kind = Literal["observe", "plan", "move", "check", "keep"]
Collision = Literal["CANCEL_NEW", "ENQUEUE"]

NAME = "main"
"""The name of every deployment: `migrate/main`."""

FORECAST_COMPLETED = "foreshard.forecast.completed"

TAG = "foreshard"
SCHEDULES_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
"""Schedules count from here, so that neither a restart nor another deployment moves them."""


@dataclass(frozen=True)
class Schedule:
    """Every ``every``, ``offset`` after the full interval (UTC): not all flows start in the same second."""

    every: timedelta
    offset: timedelta = timedelta(0)

    @property
    def anchor(self) -> datetime:
        """A moment at which a run is due."""
        return SCHEDULES_BEGIN + self.offset


@dataclass(frozen=True)
class AtOnce:
    """How many runs of one deployment there may be at the same time, and what becomes of the next one.

    ``CANCEL_NEW``: it is of no use, another comes soon; ``ENQUEUE``: it waits.
    """

    runs: int
    collision: Collision


@dataclass(frozen=True)
class Served:
    """One deployment, `NAME/main`."""

    name: str
    entrypoint: str
    kind: Kind
    schedule: Schedule | None = None
    at_once: AtOnce | None = None
    after_event: str | None = None
    """A run starts for each of these events."""

    @property
    def tags(self) -> list[str]:
        """By which the UI filters."""
        return [TAG, self.kind]

    @property
    def trigger_name(self) -> str:
        """The automation's name."""
        return f"{self.name} after {str(self.after_event).split('.')[1]}"


_MINUTE = timedelta(minutes=1)

# A limit costs: the slot of a run whose process died is free only after five minutes, and a run whose slot Prefect's
# server forgot is ended. So `migrate` and `reverse` have none, a migration is driven by one run by its lease; and
# `janitor`, which mends what died, may have one dead run beside it.
SERVED: tuple[Served, ...] = (
    Served("collect", "flows.collect.collect", "observe", Schedule(_MINUTE), AtOnce(1, "CANCEL_NEW")),
    Served(
        "forecast",
        "flows.forecast.forecast",
        "observe",
        Schedule(timedelta(hours=1), 2 * _MINUTE),
        AtOnce(1, "ENQUEUE"),
    ),
    Served(
        "decide",
        "flows.decide.decide",
        "plan",
        at_once=AtOnce(1, "ENQUEUE"),
        after_event=FORECAST_COMPLETED,
    ),
    Served("calendar-edit", "flows.calendar_edit.calendar_edit", "plan"),
    Served("migrate", "flows.migrate.migrate", "move"),
    Served("pause", "flows.pause.pause", "move"),
    Served("reverse", "flows.reverse.reverse", "move"),
    Served(
        "verify",
        "flows.verify.verify",
        "check",
        Schedule(timedelta(minutes=15), 7 * _MINUTE),
        AtOnce(1, "CANCEL_NEW"),
    ),
    Served(
        "janitor",
        "flows.janitor.janitor",
        "keep",
        Schedule(_MINUTE, _MINUTE / 2),
        AtOnce(2, "CANCEL_NEW"),
    ),
)


def served(verify_every: timedelta | None) -> Iterator[Served]:
    """The table with `verify` as the settings have it; None: it runs when somebody starts it."""
    for one in SERVED:
        if one.name == "verify":
            assert one.schedule is not None
            yield replace(one, schedule=replace(one.schedule, every=verify_every) if verify_every else None)
        else:
            yield one
