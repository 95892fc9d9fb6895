"""A plan as markdown, for the approval form, an artifact or a terminal. Written for one who sees a plan for the first
time: what happens comes first, each word of the trade is said in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, tzinfo

from foreshard.markdown import plain
from foreshard.moments import at, clock
from foreshard.planning.plan import MigrationPlan, Purpose
from foreshard.planning.prediction import Prediction
from foreshard.quantities import chance, duration, resource, size

LISTED = 12
"""So many buckets are named; of more the rest is counted."""

PURPOSES = {
    Purpose.RELIEF: "relief: the source is at risk",
    Purpose.DRAIN: "drain: the source is to be emptied",
    Purpose.PIN: "pin: the policy binds these buckets to the target",
    Purpose.BALANCE: "balance: nothing is at risk, the source carries more than its share",
}

_COSTS = {
    "copy": "reading on the source, writing on the target",
    "wal": "the target's write-ahead log",
    "verify": "reading on both to compare them",
    "network": "the link between them",
    "pause": "seconds in which writes are refused",
    "operator": "the people who watch, as the policy states it",
}


def explain(plan: MigrationPlan, waits_for: Sequence[str] = (), zone: tzinfo = UTC) -> str:
    """The plan in words and numbers: in two sentences, then when, what changes, why, and what it costs.

    ``waits_for``: what the plans of ``plan.after`` are called, such as ``plan 12``; by default their place in the
    decision. ``zone``: whose clock the times are told by; reasons are stored with theirs, in UTC.
    """
    lines = [
        f"# Move {buckets_in_words(plan)} from {plain(plan.source)} to {plain(plan.target)}",
        "",
        summary(plan, zone),
        "",
        f"**Buckets:** {listed(plan.buckets)} ({size(plan.bytes)}). **Purpose:** {PURPOSES[plan.purpose]}.",
        "",
        *_when(plan, waits_for, zone),
        "",
        *_changes(plan),
        "",
        "## Why",
    ]
    for reason in plan.reasons:
        lines += ["", f"**{reason.question.value.capitalize()}:** {reason.text}"]
    return "\n".join([*lines, "", *_costs(plan)]) + "\n"


def summary(plan: MigrationPlan, zone: tzinfo = UTC) -> str:
    """Two sentences: what is wrong, and what doing the plan means."""
    return f"{_trouble(plan, zone)} {_remedy(plan, zone)}"


def buckets_in_words(plan: MigrationPlan) -> str:
    """``1 bucket``, ``5 buckets``."""
    return f"{len(plan.buckets):,} bucket{'' if len(plan.buckets) == 1 else 's'}"


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(plain(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def percent(share: float) -> str:
    """``85 %`` of a share of capacity."""
    return f"{share * 100:.0f} %"


def _trouble(plan: MigrationPlan, zone: tzinfo) -> str:
    name, excess_at = plain(plan.source), plan.excess_at
    drained = f"{name} is being drained"
    if plan.purpose is Purpose.DRAIN:
        return (
            f"{drained}."
            if excess_at is None
            else f"{drained}, and may pass its capacity at {at(excess_at, zone)}."
        )
    if plan.purpose is Purpose.PIN:
        return f"The policy pins these buckets to {plain(plan.target)}, but they lie on {name}."
    if plan.purpose is Purpose.BALANCE:
        return f"{name} carries more than its share of the fleet's load, though nothing is at risk."
    if excess_at is None:
        return f"{name} is close to its capacity at present, though it is not forecast to pass it."
    known = [one.exceeds_before for one in plan.effects if one.shard == plan.source]
    likely = max((one for one in known if one is not None), default=None)
    if likely is None:
        return f"{name} is forecast to pass its capacity at {at(excess_at, zone)}."
    verb = "is forecast to" if likely >= 0.5 else "may"
    return f"{name} {verb} pass its capacity at {at(excess_at, zone)} (probability {chance(likely)})."


def _remedy(plan: MigrationPlan, zone: tzinfo) -> str:
    start = clock(plan.timeline.not_before.astimezone(zone))
    predicted = plan.prediction
    takes = duration(plan.timeline.predicted_s if predicted is None else predicted.work_s)
    highest = max(plan.effects, key=lambda one: one.peak_after, default=None)
    left = ""
    if highest is not None and highest.peak_after < 1:
        left = f" and leaves both under {math.floor(highest.peak_after * 100) + 1} % of capacity"
    elif highest is not None:
        left = f"; {plain(highest.shard)} is still predicted to reach {percent(highest.peak_after)} of capacity then"
    return (
        f"Moving {buckets_in_words(plan)} ({size(plan.bytes)}) to {plain(plan.target)}, starting {start}, takes "
        f"{takes}{left}."
    )


def _when(plan: MigrationPlan, waits_for: Sequence[str], zone: tzinfo) -> list[str]:
    when = plan.timeline
    excess = at(when.excess_at, zone) if when.excess_at else "none predicted"
    start_by = at(when.start_by, zone) + (" (**has passed** at the planned start)" if when.late else "")
    takes = duration(when.predicted_s)
    if plan.prediction is not None:
        takes = f"{duration(plan.prediction.work_s)}, with margin {takes}"
    rows = [
        ("planned start", at(when.not_before, zone) + (f": {plain(when.why)}" if when.why else "")),
        ("must start by", start_by if when.excess_at else _undated(plan)),
        ("expected end", f"{at(when.ends_at, zone)}, with margin"),
        ("predicted excess", excess),
        ("predicted duration", takes),
        ("predicted write pause", f"{when.predicted_pause_ms:.0f} ms in all"),
    ]
    if plan.after:
        names = waits_for or [f"the decision's plan {position + 1}" for position in plan.after]
        rows.insert(1, ("waits for the end of", ", ".join(names)))
    return [
        "## When",
        "",
        "| fleet time | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        *_parts(plan.prediction),
        "*Excess* is load above capacity: requests queue and time out. The *write pause* is how long writes of these "
        "buckets are refused, and repeated by the router, while their owner changes.",
    ]


def _undated(plan: MigrationPlan) -> str:
    """Instead of a deadline."""
    return "now: the present load presses" if plan.purpose is Purpose.RELIEF else "no deadline"


def _changes(plan: MigrationPlan) -> list[str]:
    likely = any(one.exceeds_before is not None for one in plan.effects)
    more = (" P(exceed) before | after |", "---:|---:|") if likely else ("", "")
    rows = []
    for one in plan.effects:
        row = (
            f"| {plain(one.shard)} | {resource(one.metric)} | {percent(one.peak_before)} | {percent(one.peak_after)} | "
            f"{percent(one.limit)} |"
        )
        rows.append(
            row + (f" {chance(one.exceeds_before)} | {chance(one.exceeds_after)} |" if likely else "")
        )
    said = (
        "In units of *capacity*: what a shard can bear of one resource. The *peak* is the largest load of the "
        "forecast's time that is planned for, a *quantile* of the forecast: the 95 % quantile is what load stays under "
        "in 95 of 100 cases. Planning keeps each peak under its *limit*."
    )
    if likely:
        said += " *P(exceed)* is the probability that load passes the capacity at any moment of that time."
    return [
        "## What changes",
        "",
        "| shard | resource | peak before | after | limit |" + more[0],
        "|---|---|---:|---:|---:|" + more[1],
        *rows,
        "",
        said,
    ]


def _costs(plan: MigrationPlan) -> list[str]:
    total, parts = plan.cost.total, asdict(plan.cost)
    rows = [
        f"| {name} | {_share(value)} | {chance(value / total) if total else '-'} | {said} |"
        for name, said in _COSTS.items()
        if (value := parts.get(name)) is not None
    ]
    gain = plan.risk_before - plan.risk_after - total
    gained = f": a gain of {gain:.3f}" if plan.purpose is Purpose.RELIEF else ""
    return [
        "## Cost, gain and turn",
        "",
        "| part of the cost | share of capacity | of the cost | what it is |",
        "|---|---:|---:|---|",
        *rows,
        "",
        f"The risk is {plan.risk_before:.3f} before and {plan.risk_after:.3f} after, the cost {total:.4f}{gained}. "
        "*Risk* and cost are in the same unit, shares of a shard's capacity over the forecast's time, so that the one "
        f"can be taken from the other. Priority {round(plan.priority, 3) + 0.0:,.3f}, which is risk times latency "
        "saved: of two plans for one purpose the higher goes first.",
    ]


def _share(value: float) -> str:
    return f"{value:.5f}" if value >= 5e-6 or value == 0 else "<0.00001"


def _parts(prediction: Prediction | None) -> list[str]:
    """Of the duration; below the table, since one of Prefect's two UIs cuts off a wide cell."""
    if prediction is None:
        return []
    return [
        f"Of the duration: backfill {duration(prediction.backfill_s)}, catch-up {duration(prediction.catch_up_s)}, "
        f"verification {duration(prediction.verify_s)}, soak {duration(prediction.soak_s)}, margin "
        f"{duration(prediction.margin_s)}.",
        "",
    ]
