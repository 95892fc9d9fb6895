"""An event as a person gives it, whole or in part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from foreshard.calendar.moment import parse_moment
from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event, EventKind


@dataclass(frozen=True)
class Draft:
    """What was given; None is what was not. Times are text, in the fleet's zone if they name none."""

    name: str | None = None
    starts_at: str | None = None
    ends_at: str | None = None
    effect: float | None = None
    shards: Iterable[str] | None = None
    buckets: Iterable[str] | None = None
    kind: EventKind | None = None

    def event(self, timezone: ZoneInfo) -> Event:
        """A new event. Raises ``InvalidInput`` naming the field."""
        for field in ("name", "starts_at", "ends_at"):
            if not (getattr(self, field) or "").strip():
                raise InvalidInput(field, "is missing.", remedy="An event needs a name, a start and an end.")
        assert self.name is not None
        assert self.starts_at is not None
        assert self.ends_at is not None
        return Event(
            self.name.strip(),
            parse_moment("starts_at", self.starts_at, timezone),
            parse_moment("ends_at", self.ends_at, timezone),
            self.effect,
            _names(self.shards),
            _names(self.buckets),
            self.kind or EventKind.PROMOTION,
        )

    def applied_to(self, event: Event, timezone: ZoneInfo) -> Event:
        """``event`` with what was given. Empty lists of shards and buckets mean: everywhere. What becomes a blackout
        loses its effect.
        """
        kind = self.kind or event.kind
        kept = None if self.kind is EventKind.BLACKOUT else event.effect
        return replace(
            event,
            name=event.name if self.name is None else self.name.strip(),
            starts_at=event.starts_at
            if self.starts_at is None
            else parse_moment("starts_at", self.starts_at, timezone),
            ends_at=event.ends_at
            if self.ends_at is None
            else parse_moment("ends_at", self.ends_at, timezone),
            effect=kept if self.effect is None else self.effect,
            shards=event.shards if self.shards is None else _names(self.shards),
            buckets=event.buckets if self.buckets is None else _names(self.buckets),
            kind=kind,
        )


def _names(names: Iterable[str] | None) -> frozenset[str] | None:
    return frozenset(names or ()) or None
