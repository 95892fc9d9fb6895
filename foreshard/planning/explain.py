"""A plan as markdown, for the approval form, an artifact or a terminal."""

from __future__ import annotations

from foreshard.planning.plan import MigrationPlan
from foreshard.planning.prediction import Prediction
from foreshard.quantities import duration


def explain(plan: MigrationPlan) -> str:
    """The plan in words and numbers: what, when, what it changes, why."""
    when = plan.timeline
    excess = f"{when.excess_at:%Y-%m-%d %H:%M} UTC" if when.excess_at else "none predicted"
    lines = [
        f"# Move {len(plan.buckets)} buckets from {plan.source} to {plan.target}",
        "",
        f"{', '.join(plan.buckets)}: {plan.bytes / 1e6:.1f} MB",
        "",
        "| when (fleet time) | |",
        "|---|---|",
        f"| not before | {when.not_before:%Y-%m-%d %H:%M} UTC |",
        f"| start by | {when.start_by:%Y-%m-%d %H:%M} UTC |",
        f"| predicted excess | {excess} |",
        f"| predicted duration | {when.predicted_s / 60:.0f} min{_parts(plan.prediction)} |",
        f"| predicted write pause | {when.predicted_pause_ms:.0f} ms |",
        "",
        "| predicted peak | resource | before | after | limit |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {one.shard} | {one.metric} | {one.peak_before:.2f} | {one.peak_after:.2f} | {one.limit:.2f} |"
        for one in plan.effects
    ]
    lines += [
        "",
        f"Risk {plan.risk_before:.3f} before, {plan.risk_after:.3f} after, cost {plan.cost.total:.4f}; "
        f"priority {plan.priority:.3f}.",
    ]
    for reason in plan.reasons:
        lines += ["", f"**{reason.question.value.capitalize()}?** {reason.text}"]
    return "\n".join(lines) + "\n"


def _parts(prediction: Prediction | None) -> str:
    if prediction is None:
        return ""
    return (
        f": backfill {duration(prediction.backfill_s)}, catch-up {duration(prediction.catch_up_s)}, "
        f"verification {duration(prediction.verify_s)}, soak {duration(prediction.soak_s)}, "
        f"margin {duration(prediction.margin_s)}"
    )
