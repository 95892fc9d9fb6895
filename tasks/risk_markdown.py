"""The risk of every shard as a narrow table: one of Prefect's two pages cuts off what is wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from foreshard.markdown import plain, shortened
from foreshard.planning.explain import percent
from foreshard.planning.plan import MigrationPlan
from foreshard.planning.risk import ResourceRisk, ShardRisk
from foreshard.quantities import chance, resource
from tasks import fleet_time, links

SHOWN = 50
"""Shards in a table; of a larger fleet the riskiest."""

NAMED = 0.5
"""A resource that is not its shard's worst is shown when it is predicted to peak above this share of its capacity,"""

LIKELY = 0.01
"""or is exceeded with this probability."""

MEANING = (
    "*Now* and *peak* are shares of *capacity*, which is what a shard can bear of one resource. The peak is the "
    "largest load of the forecast's time that is planned for; *saturates* is when that passes the capacity, by the "
    "fleet's clock. *P(exceed)* is the probability that load passes it at any moment of that time. A shard's worst "
    "resource is **bold** and decides; others are shown where they matter."
)


def table(
    risks: Sequence[ShardRisk],
    planned: Mapping[str, Sequence[int]],
    timezone: str,
    newest: Mapping[str, UUID] | None = None,
    shown: int = SHOWN,
) -> list[str]:
    """Lines of markdown, the riskiest shard first. ``planned``: plans by their source; ``newest``: see `links`."""
    ordered = sorted(
        risks, key=lambda one: (-one.score, -one.worst_resource.predicted_utilisation, one.shard)
    )
    lines = [
        "| shard | resource | now | peak | saturates | P(exceed) | planned |",
        "|---|---|---:|---:|---|---:|---|",
    ]
    for risk in ordered[:shown]:
        first, *others = sorted(risk.resources, key=lambda one: one.metric != risk.worst)
        does = ", ".join(
            links.to_artifact(f"plan-{one}", f"plan {one}", newest) for one in planned.get(risk.shard, ())
        )
        lines.append(_row(f"**{plain(shortened(risk.shard))}**", first, does, timezone, worst=True))
        lines += [_row("", one, "", timezone, worst=False) for one in others if _matters(one)]
    return [*lines, *more(len(ordered) - shown, "shards with lower scores")]


def more(number: int, what: str) -> list[str]:
    """A line below a table that was cut."""
    return ["", f"... and {number:,} more {what}."] if number > 0 else []


def plans_by_source(plans: Sequence[MigrationPlan], numbers: Sequence[int]) -> dict[str, list[int]]:
    """The numbers of a decision's plans by the shard that they relieve."""
    found: dict[str, list[int]] = {}
    for plan, number in zip(plans, numbers, strict=False):
        found.setdefault(plan.source, []).append(number)
    return found


def _matters(one: ResourceRisk) -> bool:
    likely = one.exceeds is not None and one.exceeds >= LIKELY
    return one.excess_at is not None or likely or one.predicted_utilisation > NAMED


def _row(name: str, one: ResourceRisk, planned: str, timezone: str, *, worst: bool) -> str:
    what = f"**{resource(one.metric)}**" if worst else resource(one.metric)
    saturates = "never" if one.excess_at is None else f"**{fleet_time.hour(one.excess_at, timezone)}**"
    return (
        f"| {name} | {what} | {percent(one.utilisation)} | {percent(one.predicted_utilisation)} | {saturates} | "
        f"{chance(one.exceeds)} | {planned} |"
    )
