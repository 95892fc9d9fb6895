"""What a stage measured of the rates that it ran at, as far as one may learn from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foreshard.migration.lifecycle import Stage
from foreshard.planning.learnt_rates import RateKind

LEAST_BYTES = 8_000_000
"""Below that connecting, creating and waiting are most of the time, and no rate."""

THROTTLED_SHARE = 0.1
"""Of a copy's time: one that was held back for longer says nothing of what the pair can do."""


@dataclass(frozen=True)
class Measured:
    """``seconds`` that ``bytes`` of one kind of work took."""

    kind: RateKind
    bytes: int
    seconds: float


def measured(stage: Stage, detail: Mapping[str, Any], size_bytes: int | None) -> list[Measured]:
    """What the ``detail`` of a stage that finished at its first attempt says; nothing where it says nothing.

    ``size_bytes``: the buckets' size with indexes and TOAST, which is what plans know. Rates are in it: methods count
    what they send, each in its own way.
    """
    found: list[tuple[RateKind, float | None, float | None]] = []
    if stage is Stage.BACKFILL:
        copy_s = _number(detail, "copy_seconds")
        throttled = copy_s is not None and (_number(detail, "throttled_s") or 0.0) > THROTTLED_SHARE * copy_s
        kind = f"copy_{detail.get('method')}"
        if kind in (RateKind.COPY_PIPE, RateKind.COPY_SUBSCRIPTION) and not throttled:
            found.append((RateKind(kind), _large(size_bytes), copy_s))
        found.append((RateKind.INDEX, _large(size_bytes), _number(detail, "index_seconds")))
    elif stage is Stage.CATCH_UP:
        # However small: its duration is what the next one is predicted by, and set-up is a part of that.
        found.append((RateKind.CATCH_UP, _number(detail, "caught_up_bytes"), _number(detail, "seconds")))
    elif stage is Stage.VERIFY:
        found.append((RateKind.VERIFY, _large(size_bytes), _number(detail, "seconds")))
    return [
        Measured(kind, int(size), seconds) for kind, size, seconds in found if size and size >= 1 and seconds
    ]


def _large(size_bytes: int | None) -> int | None:
    return size_bytes if size_bytes is not None and size_bytes >= LEAST_BYTES else None


def _number(detail: Mapping[str, Any], name: str) -> float | None:
    """A number above zero; None for anything else."""
    value = detail.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) and value > 0 else None
