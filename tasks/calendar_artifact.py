"""The calendar in the UI, as a table with a stable key."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.forecast.calendar import Event, EventKind
from foreshard.settings import Settings

AHEAD = timedelta(days=366)


@task(name="show calendar", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show(control: ControlDatabase, settings: Settings) -> None:
    """What is under way or to come within a year, by start."""
    timezone = ZoneInfo(settings.clock.timezone)
    now = settings.clock.fleet_clock().now()
    store = CalendarStore(control)
    events = [(one.event, str(one.id), one.source) for one in store.all() if one.event.ends_at > now]
    for region in store.regions():
        events += [(event, "", str(region)) for event in region.events(timezone, now, now + AHEAD)]
    create_table_artifact(
        key="calendar",
        table=[_row(*one, timezone) for one in sorted(events, key=lambda one: one[0].starts_at)],
        description=f"Calendar: {len(events)} events under way or to come; times of {timezone.key}",
    )


def _row(event: Event, number: str, source: str, timezone: ZoneInfo) -> dict[str, str]:
    return {
        "number": number,
        "event": event.name,
        "kind": event.kind.value,
        "from": f"{event.starts_at.astimezone(timezone):%Y-%m-%d %H:%M}",
        "until": f"{event.ends_at.astimezone(timezone):%Y-%m-%d %H:%M}",
        "effect": _effect(event),
        "shards": ", ".join(sorted(event.shards or ())) or ("" if event.buckets else "all"),
        "buckets": ", ".join(sorted(event.buckets or ())) or ("" if event.shards else "all"),
        "source": source,
    }


def _effect(event: Event) -> str:
    if event.kind is EventKind.BLACKOUT:
        return "no migration runs"
    return "to be learnt" if event.effect is None else f"x {event.effect:g}"
