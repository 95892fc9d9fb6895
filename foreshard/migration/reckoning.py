"""A migration's prediction beside what it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreshard.control.flip_store import FlipRecord
from foreshard.control.migration_models import StageRun
from foreshard.planning.prediction import Prediction
from foreshard.quantities import UNKNOWN, duration, size

Figures = Mapping[str, float | None]
"""By the names of `WHAT`; seconds, bytes or milliseconds. None, or absent: not known."""

WHAT = {
    "backfill_s": "backfill",
    "copy_s": "of it, copying rows",
    "index_s": "of it, indexes",
    "catch_up_s": "catch-up",
    "verify_s": "verification",
    "soak_s": "soak",
    "work_s": "whole migration, without waiting for people",
    "bytes": "size with indexes",
    "pause_ms": "write pause of all flips",
}


@dataclass(frozen=True)
class Line:
    """One figure of both, as text; ``ratio`` is measured / predicted."""

    what: str
    predicted: str
    measured: str
    ratio: str


def stage_seconds(runs: Iterable[StageRun]) -> dict[str, float]:
    """What each stage took, all its attempts that came to an end."""
    seconds: dict[str, float] = {}
    for run in runs:
        if run.finished_at is not None:
            spent = (run.finished_at - run.started_at).total_seconds()
            seconds[run.stage] = round(seconds.get(run.stage, 0.0) + spent, 3)
    return seconds


def predicted(prediction: Prediction | None) -> dict[str, float | None] | None:
    """The plan's prediction; None for a plan that was stored without one."""
    if prediction is None:
        return None
    figures = {name: getattr(prediction, name) for name in WHAT}
    if not prediction.index_s:  # the rate was of the whole backfill: of its parts nothing was predicted
        figures |= {"copy_s": None, "index_s": None}
    return figures


def measured(
    runs: Sequence[StageRun], flips: Iterable[FlipRecord], facts: Mapping[str, Any]
) -> dict[str, float | None]:
    """The same of a migration, as far as it has come."""
    seconds = stage_seconds(runs)
    backfill = next((run.detail for run in runs if run.stage == "backfill" and run.outcome == "finished"), {})
    pauses = [flip.pause_ms for flip in flips if flip.pause_ms is not None]
    return {
        **{f"{stage}_s": seconds.get(stage) for stage in ("backfill", "catch_up", "verify", "soak")},
        "copy_s": backfill.get("copy_seconds"),
        "index_s": backfill.get("index_seconds"),
        "work_s": round(sum(seconds.values()), 3) if seconds else None,
        "bytes": facts.get("bytes"),
        "pause_ms": round(sum(pauses), 3) if pauses else None,
    }


def side_by_side(predicted: Figures | None, measured: Figures | None) -> list[Line]:
    """A line for each figure that either knows, as `predicted` and `measured` give them."""
    expected, found = predicted or {}, measured or {}
    return [
        _line(name, what, expected.get(name), found.get(name))
        for name, what in WHAT.items()
        if expected.get(name) is not None or found.get(name) is not None
    ]


def _line(name: str, what: str, expected: float | None, found: float | None) -> Line:
    ratio = UNKNOWN if not expected or found is None else f"{found / expected:.2f}"
    return Line(what, _text(name, expected), _text(name, found), ratio)


def _text(name: str, value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if name == "bytes":
        return size(value)
    return f"{value:.1f} ms" if name.endswith("_ms") else duration(value)
