"""The front page: what waits for a person, what is under way, what is planned, and every shard's load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from foreshard.control.migration_store import MigrationRecord
from foreshard.control.plan_store import DecisionRecord, PlanRecord
from foreshard.control.topology_store import ShardRecord
from foreshard.markdown import plain, shortened
from foreshard.migration.lifecycle import ENDS
from foreshard.planning.explain import buckets_in_words, percent
from foreshard.quantities import chance, many, resource, size
from tasks import fleet_time, links
from tasks.artifact_keys import artifact_key
from tasks.risk_markdown import more, plans_by_source
from tasks.stage_path import stage_path, words

SHOWN = 50
"""Shards in the table, those in need first."""

LISTED = 20
"""Plans and migrations that are listed."""


@dataclass(frozen=True)
class FleetFacts:
    """What the front page is made from.

    ``present``: the load now by shard and metric, in the metric's unit. ``buckets``: how many each shard holds.
    ``plans``: those that wait or are carried out. ``migrations``: all that are under way and the last that ended.
    """

    now: datetime
    timezone: str
    shards: Sequence[ShardRecord]
    present: Mapping[str, Mapping[str, float]]
    buckets: Mapping[str, int]
    decision: DecisionRecord | None
    plans: Sequence[PlanRecord]
    migrations: Sequence[MigrationRecord]

    @property
    def live(self) -> list[MigrationRecord]:
        """Oldest first."""
        return sorted((one for one in self.migrations if one.stage not in ENDS), key=lambda one: one.id)

    @property
    def ended(self) -> list[MigrationRecord]:
        """Newest first."""
        return sorted((one for one in self.migrations if one.stage in ENDS), key=lambda one: -one.id)

    @property
    def waiting(self) -> list[MigrationRecord]:
        """Those that go on only when a person has done something."""
        return [one for one in self.live if one.waiting_for is not None or one.failure is not None]

    @property
    def proposed(self) -> list[PlanRecord]:
        """By planned start."""
        found = [one for one in self.plans if one.state == "proposed"]
        return sorted(found, key=lambda one: (one.plan.timeline.not_before, one.id))


def keys(facts: FleetFacts) -> list[str]:
    """Of the artifacts that the page leads to, so that it can lead to their newest version at once."""
    decision = [] if facts.decision is None else [f"plan-{one}" for one in facts.decision.plan_ids[:LISTED]]
    at_risk = [] if facts.decision is None else [
        artifact_key("forecast", one.shard, one.worst) for one in facts.decision.decision.risks if one.excess_at
    ]  # fmt: skip
    return [
        links.FLEET, "forecast", "decision", "risks", "calendar", *decision, *at_risk[:LISTED],
        *(f"plan-{one.id}" for one in facts.proposed[:LISTED]),
        *(f"migration-{one.id}-progress" for one in facts.live[:LISTED]),
        *(f"migration-{one.id}-report" for one in facts.ended[:LISTED]),
    ]  # fmt: skip


def description(facts: FleetFacts) -> str:
    """One line: what it is about, for lists of artifacts."""
    said = [f"{many(len(facts.waiting), 'migration')} waiting for a person"] if facts.waiting else []
    said.append(f"{many(len(facts.live), 'migration')} under way")
    said.append(f"{many(len(facts.proposed), 'plan')} proposed")
    return f"The fleet at {fleet_time.moment(facts.now, facts.timezone)}: {', '.join(said)}"


def as_markdown(facts: FleetFacts, newest: Mapping[str, UUID]) -> str:
    """``newest``: ids of artifacts by their keys; see `links`."""
    found = [
        links.to_artifact(key, text, newest)
        for key, text in (
            ("forecast", "Newest forecast"),
            ("risks", "Risk of every shard"),
            ("decision", "Newest decision"),
            ("calendar", "Calendar"),
        )
        if key in newest
    ]
    lines = [
        f"# Fleet at {fleet_time.moment(facts.now, facts.timezone)}",
        "",
        links.line(*found, links.to_deployments("Start a flow")),
        "",
        "## Waits for a person",
        "",
        *([_waits(one) for one in facts.waiting[:LISTED]] or ["Nothing."]),
        *more(len(facts.waiting) - LISTED, "migrations"),
        "",
        "## Under way",
        "",
        *([_under_way(one, newest) for one in facts.live[:LISTED]] or ["No migration."]),
        *more(len(facts.live) - LISTED, "migrations"),
        "",
        "## Planned",
        "",
        *(
            [_planned(one, facts.timezone, newest) for one in facts.proposed[:LISTED]]
            or ["Nothing is to be moved."]
        ),
        *more(len(facts.proposed) - LISTED, "plans"),
        "",
        "## Shards",
        "",
        *_shards(facts, newest),
    ]
    if facts.ended:
        lines += ["", "## Ended last", "", *(_ended(one, newest) for one in facts.ended[:LISTED])]
    return "\n".join(lines) + "\n"


def _waits(one: MigrationRecord) -> str:
    run = links.to_run(one.flow_run_id, f"Open the run of migration {one.id}") if one.flow_run_id else ""
    way = f"{plain(one.source)} → {plain(one.target)}"
    if one.failure is not None:
        return (
            f"- **Migration {one.id} failed** at {words(one.stage)}, {way}: {plain(one.failure)} "
            f"{run}; start *migrate* with this number to go on, or *reverse* to take it back."
        )
    what = "your approval" if one.waiting_for == "approval" else plain(str(one.waiting_for))
    return (
        f"- **Migration {one.id} waits for {what}** at {words(one.stage)}, {way}. {run} and press **Resume**."
    )


def _under_way(one: MigrationRecord, newest: Mapping[str, UUID]) -> str:
    known = links.line(
        links.to_artifact(f"migration-{one.id}-progress", "progress", newest),
        links.to_artifact(f"plan-{one.plan_id}", f"plan {one.plan_id}", newest),
        links.to_run(one.flow_run_id, "run") if one.flow_run_id else "",
    )
    return (
        f"- **Migration {one.id}**: {plain(one.source)} → {plain(one.target)}, {many(len(one.buckets), 'bucket')} "
        f"({known})  \n  {stage_path(one.stage)}"
    )


def _planned(one: PlanRecord, timezone: str, newest: Mapping[str, UUID]) -> str:
    plan, when = one.plan, one.plan.timeline
    by = f", must start by {fleet_time.hour(when.start_by, timezone)}" if when.excess_at else ""
    return (
        f"- {links.to_artifact(f'plan-{one.id}', f'Plan {one.id}', newest)}: {plain(plan.source)} → "
        f"{plain(plan.target)}, {buckets_in_words(plan)}, {size(plan.bytes)}, starts "
        f"{fleet_time.hour(when.not_before, timezone)}{by}"
    )


def _ended(one: MigrationRecord, newest: Mapping[str, UUID]) -> str:
    return (
        f"- {links.to_artifact(f'migration-{one.id}-report', f'Migration {one.id}', newest)}: {plain(one.source)} → "
        f"{plain(one.target)}, {many(len(one.buckets), 'bucket')}: **{words(one.stage)}**"
    )


def _shards(facts: FleetFacts, newest: Mapping[str, UUID]) -> list[str]:
    if not facts.shards:
        return ["None: `foreshard adopt` takes a fleet over."]
    made = facts.decision
    risks = {} if made is None else {one.shard: one for one in made.decision.risks}
    planned = {} if made is None else plans_by_source(made.decision.plans, made.plan_ids)
    ordered = sorted(
        facts.shards, key=lambda one: (-risks[one.name].score if one.name in risks else 1.0, one.name)
    )
    lines = [
        "| shard | buckets | load now | peak | saturates | P(exceed) | planned |",
        "|---|---:|---|---:|---|---:|---|",
    ]
    for shard in ordered[:SHOWN]:
        risk = risks.get(shard.name)
        name, ahead = plain(shortened(shard.name)), "- | - | -"
        if risk is not None:
            worst, above = risk.worst_resource, risk.excess_at
            key = artifact_key("forecast", shard.name, risk.worst)
            name = links.to_artifact(key, shortened(shard.name), newest) if key in newest else name
            saturates = f"**{fleet_time.hour(above, facts.timezone)}**" if above else "never"
            ahead = f"{percent(worst.predicted_utilisation)} | {saturates} | {chance(worst.exceeds)}"
        state = " (draining)" if shard.draining else ""
        does = ", ".join(
            links.to_artifact(f"plan-{one}", f"plan {one}", newest) for one in planned.get(shard.name, ())[:3]
        )
        lines.append(
            f"| {name}{state} | {facts.buckets.get(shard.name, 0):,} | {_busiest(shard, facts.present)} | {ahead} | "
            f"{does} |"
        )
    said = "*Load now* is of the busiest resource, *peak* the largest forecast load of the one most at risk; both are "
    said += "shares of capacity. *Saturates*: when that peak first passes the capacity."
    said += (
        "" if made is not None else " No decision was made yet: start *forecast*; *decide* follows by itself."
    )
    return [*lines, *more(len(ordered) - SHOWN, "shards, less at risk"), "", said]


def _busiest(shard: ShardRecord, present: Mapping[str, Mapping[str, float]]) -> str:
    load = present.get(shard.name, {})
    shares = {
        metric: load[metric] / one for metric, one in shard.load_capacity.items() if metric in load and one
    }
    if not shares:
        return "not measured"
    metric = max(shares, key=lambda one: shares[one])
    return f"{percent(shares[metric])} {resource(metric)}"
