"""Progress of a step, for people and machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` (in ``unit``) of a step; ``text`` says what is being done."""

    text: str
    done: float
    total: float
    unit: str

    @property
    def fraction(self) -> float:
        """Between 0 and 1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 1.0


Report: TypeAlias = Callable[[Progress], None]
