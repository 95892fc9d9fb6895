"""Progress of a step, for people and machines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from foreshard.quantities import SECONDS

LISTED = 100
"""A stored progress names that many parts at most."""


@dataclass(frozen=True)
class Part:
    """One table's, or one index's, share of a step: ``done`` of ``total``, in the step's unit.

    ``rows``: handled so far; None where rows are not counted. ``per_s``: units per second; None where not measured.
    """

    name: str
    done: float
    total: float
    rows: int | None = None
    per_s: float | None = None

    @property
    def finished(self) -> bool:
        """Nothing of it is left."""
        return self.done >= self.total

    @property
    def under_way(self) -> bool:
        """Begun and not finished."""
        return 0 < self.done < self.total

    @property
    def eta_s(self) -> float | None:
        """Seconds until it ends at the present rate; None where that is not known."""
        return _eta_s(self.done, self.total, self.per_s)


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` (in ``unit``) of a step; ``text`` says what is being done.

    ``per_s``: the present rate, in units per second; None where none was measured. ``parts``: what the step consists
    of, every one of them in every report; empty where it has none to show.
    """

    text: str
    done: float
    total: float
    unit: str
    per_s: float | None = None
    parts: tuple[Part, ...] = ()

    @property
    def fraction(self) -> float:
        """Between 0 and 1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 1.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until the step ends at the present rate; None where that is not known."""
        return _eta_s(self.done, self.total, self.per_s)

    @property
    def rows(self) -> int | None:
        """Rows of all parts; None where rows are not counted."""
        counted = [part.rows for part in self.parts if part.rows is not None]
        return sum(counted) if counted else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of a bounded size: the totals, and up to ``LISTED`` parts.

        All parts where they are few enough; else those that are under way, and of the rest only how many there are:
        a thousand tables, written every two seconds, would be a load of their own.
        """
        finished = sum(part.finished for part in self.parts)
        under_way = [part for part in self.parts if part.under_way]
        listed = self.parts if len(self.parts) <= LISTED else under_way[:LISTED]
        return {
            **_figures(self),
            "text": self.text,
            "unit": self.unit,
            "parts": {
                "total": len(self.parts),
                "finished": finished,
                "under_way": len(under_way),
                "waiting": len(self.parts) - finished - len(under_way),
                "listed": [{"name": part.name, **_figures(part)} for part in listed],
            },
        }


Report: TypeAlias = Callable[[Progress], None]


class RateMeter:
    """Fills in rates that nobody measured: the mean since a part, or the step, was first seen to move.

    Asked by one thread at a time. What a report is of, is told by its ``text``: a warning between two reports of the
    copy is another thing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str | None], tuple[float, float]] = {}

    def filled(self, progress: Progress) -> Progress:
        """``progress`` with the rates of the whole and of what is under way; one that was reported stays."""
        if progress.unit == SECONDS:
            return replace(progress, per_s=1.0)
        now, text = self._clock(), progress.text
        parts = tuple(
            replace(part, per_s=self._rate((text, part.name), part.done, now))
            if part.under_way and part.per_s is None
            else part
            for part in progress.parts
        )
        per_s = progress.per_s if progress.per_s is not None else self._rate((text, None), progress.done, now)
        return replace(progress, parts=parts, per_s=per_s)

    def _rate(self, name: tuple[str, str | None], done: float, now: float) -> float | None:
        since, before = self._seen.setdefault(name, (now, done))
        return (done - before) / (now - since) if now > since and done > before else None


def _eta_s(done: float, total: float, per_s: float | None) -> float | None:
    return max(0.0, total - done) / per_s if per_s else None


def _figures(one: Part | Progress) -> dict[str, Any]:
    return {"done": one.done, "total": one.total, "rows": one.rows, "per_s": one.per_s, "eta_s": one.eta_s}
