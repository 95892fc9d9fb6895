"""What differs between two plans or decisions, as markdown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from foreshard.markdown import cell
from foreshard.moments import clock
from foreshard.planning.comparison import Comparison, FieldChange, Move, RiskChange
from foreshard.planning.explain import percent
from foreshard.quantities import UNKNOWN, chance, duration, size

MOST = 30
"""Rows of a table; what is more is counted."""

_EPSILON = 5e-4  # what does not show in the digits that are printed has not changed


def explain_comparison(comparison: Comparison, before: str, after: str) -> str:
    """The comparison in words and tables; ``before`` and ``after`` are what the two are called."""
    lines = [f"# From {before} to {after}", "", _summary(comparison, before, after)]
    moves = [
        *(("new", f"{cell(one.bucket)}", _way(one)) for one in comparison.added),
        *(("gone", f"{cell(one.bucket)}", _way(one)) for one in comparison.gone),
        *(
            ("changed", f"{cell(one.after.bucket)}", f"{_way(one.before)}, now {_way(one.after)}")
            for one in comparison.changed
        ),
    ]
    if moves:
        lines += _table("Moves", ("move", "bucket", "from and to"), moves)
    risks = [one for one in comparison.risks if _moved(one)]
    if risks:
        risks.sort(key=lambda one: (-_step(one), one.shard))
        rows = [
            (
                cell(one.shard),
                f"{_number(one.score_before)} → {_number(one.score_after)}",
                f"{_share(one.peak_before)} → {_share(one.peak_after)}",
                f"{chance(one.exceeds_before)} → {chance(one.exceeds_after)}",
            )
            for one in risks
        ]
        lines += _table("Risk", ("shard", "score", "peak, of capacity", "P(exceed)"), rows)
    for title, fields in (("Policy", comparison.policy), ("Numbers", comparison.values)):
        if fields:
            rows_of = [(one.field, _value(one, one.before), _value(one, one.after)) for one in fields]
            lines += _table(title, ("field", before, after), rows_of)
    return "\n".join(lines) + "\n"


def _summary(found: Comparison, before: str, after: str) -> str:
    if found.same_moves:
        same = f"Both move the same {found.kept} buckets." if found.kept else "Neither moves a bucket."
    else:
        counts = [
            (len(found.added), "new"), (len(found.gone), "gone"), (len(found.changed), "otherwise"),
            (found.kept, "as before"),
        ]  # fmt: skip
        same = f"Of the moved buckets {', '.join(f'{many} {word}' for many, word in counts if many)}."
    if not found.policy:
        return f"{same} Both follow the same policy; what differs comes from newer forecasts, loads and placements."
    fields = ", ".join(f"`{one.field}`" for one in found.policy)
    return f"{same} {before} and {after} follow policies that differ in {fields}."


def _table(title: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    every = list(rows)
    more = [f"... and {len(every) - MOST:,} more.", ""] if len(every) > MOST else []
    return [
        "",
        f"## {title}",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(row)} |" for row in every[:MOST]),
        *(["", *more] if more else []),
    ]


def _way(move: Move) -> str:
    return f"{cell(move.source)} → {cell(move.target)}"


def _moved(one: RiskChange) -> bool:
    if (one.score_before is None) != (one.score_after is None):
        return True
    return _step(one) > _EPSILON


def _step(one: RiskChange) -> float:
    """By how much the value that changed most did."""
    pairs = (
        (one.score_before, one.score_after),
        (one.peak_before, one.peak_after),
        (one.exceeds_before, one.exceeds_after),
    )
    return max((abs(b - a) for a, b in pairs if a is not None and b is not None), default=0.0)


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(value)


def _value(of: FieldChange, value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, datetime):
        return f"{clock(value)} UTC"
    if of.field == "bytes":
        return size(value)
    if of.field.endswith("_s") and isinstance(value, int | float) and "bytes" not in of.field:
        return duration(value)
    if isinstance(value, float):
        return percent(value) if of.field == "max_utilisation" else f"{value:.4g}"
    return cell(str(value))
