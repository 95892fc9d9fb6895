"""One event of a file, and what a file says as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event


@dataclass(frozen=True)
class Entry:
    """``uid`` and ``recurrence`` tell an event of an iCalendar file when it comes again; both '' elsewhere."""

    event: Event
    uid: str = ""
    recurrence: str = ""


@dataclass(frozen=True)
class CalendarFile:
    """``entries`` to be stored; ``uids``: all that the file speaks of: what else was stored of them is gone."""

    entries: tuple[Entry, ...]
    uids: frozenset[str] = frozenset()


@contextmanager
def placed(place: str) -> Iterator[None]:
    """What is refused in the block is refused at that place of a file: ``place`` stands before the field."""
    try:
        yield
    except InvalidInput as refused:
        raise InvalidInput(
            f"{place}: {refused.field}",
            refused.message.removeprefix(f"{refused.field}: "),
            remedy=refused.remedy,
        ) from None


def parse_effect(text: str) -> float | None:
    """'' is None; ``1.35`` and ``135%`` are the same. Raises ``InvalidInput`` (field ``effect``)."""
    text = text.strip()
    try:
        if not text:
            return None
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise InvalidInput(
            "effect", f"{text!r} is not a number.", remedy="1.35 means 35 % more load."
        ) from None


def names(text: str) -> frozenset[str] | None:
    """Names separated by blanks or semicolons; None if there is none."""
    return frozenset(text.replace(";", " ").split()) or None
