"""Progress of a step, for people and machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Part:
    """One table's, or one index's, share of a step: ``done`` of ``total``, in the step's unit.

    ``rows``: handled so far; None where rows are not counted.
    """

    name: str
    done: float
    total: float
    rows: int | None = None

    @property
    def finished(self) -> bool:
        """Nothing of it is left."""
        return self.done >= self.total


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
        return max(0.0, self.total - self.done) / self.per_s if self.per_s else None


Report: TypeAlias = Callable[[Progress], None]
