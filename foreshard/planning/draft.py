"""A move as it was chosen, before it has a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from foreshard.planning.plan import Purpose
from foreshard.planning.prediction import Prediction
from foreshard.planning.view import Indexes


@dataclass(frozen=True, eq=False)
class Draft:
    """Rows of the view: ``buckets`` go from ``source`` to ``target``.

    ``excess_at``: when the source is predicted to exceed its capacity, None if it is not. ``prediction``: how long the
    migration takes. ``priority``: higher goes first among drafts of one purpose.
    """

    source: int
    target: int
    buckets: Indexes
    purpose: Purpose
    excess_at: datetime | None
    prediction: Prediction
    priority: float
