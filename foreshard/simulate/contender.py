"""Who is compared: ways of deciding, all of them by the same planner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from foreshard.planning.policy import DecisionPolicy

THRESHOLDS = (0.6, 0.7, 0.8, 0.9)
"""Those that `reactive` is tried with; the best one counts."""


class Way(StrEnum):
    """How one looks ahead.

    ``none``: nothing is ever moved. ``reactive``: by the present load, as soon as it passes a threshold. ``naive``:
    by forecasts of the seasonal naive. ``predictive``: by the forecaster's candidates. ``oracle``: by what comes.
    """

    NONE = "none"
    REACTIVE = "reactive"
    NAIVE = "naive"
    PREDICTIVE = "predictive"
    ORACLE = "oracle"


FORECASTING = frozenset({Way.NAIVE, Way.PREDICTIVE})


@dataclass(frozen=True)
class Contender:
    """A way of deciding; ``threshold``: of `reactive` alone."""

    way: Way
    threshold: float | None = None

    def __str__(self) -> str:
        return self.way.value if self.threshold is None else f"{self.way.value} {self.threshold:g}"

    def policy(self, given: DecisionPolicy) -> DecisionPolicy:
        """What the planner is told.

        `reactive` acts above its threshold, at once, however little it exceeds it, until it is back under it; a target
        is not filled beyond it either.
        """
        if self.threshold is None:
            return given
        return given.model_copy(
            update={
                "knee": self.threshold,
                "current_weight": ALWAYS,
                "migration_threshold": 0.0,
                "target_ceiling": min(given.target_ceiling, self.threshold),
                "start": "now",
            }
        )


ALWAYS = 100.0
"""A weight by which the smallest excess over a threshold outweighs any cost."""


def contenders(ways: tuple[Way, ...] = tuple(Way)) -> tuple[Contender, ...]:
    """Of all these ways; `reactive` with each threshold."""
    found: list[Contender] = []
    for way in ways:
        found += [Contender(way, one) for one in THRESHOLDS] if way is Way.REACTIVE else [Contender(way)]
    return tuple(found)
