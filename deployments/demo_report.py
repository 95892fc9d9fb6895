"""The demo's report: what happened, and whether every promise was kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments import leftovers
from deployments.stack import Stack
from foreshard.clock import FleetClock
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.migration_models import StageRun
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.plan_store import DecisionRecord, PlanStore
from foreshard.control.topology_store import TopologyStore
from foreshard.fleet.checker import CheckResult, OwnerReader, check
from foreshard.fleet.embedded import SHARDS
from foreshard.fleet.ledger import Ledger
from foreshard.migration.lifecycle import PATH
from foreshard.settings import load_settings

MANY_WRITES = 5_000
WRITES_TO_MOVED = 2_000
REDIRECTED_WRITES = 200


@dataclass
class Report:
    """``data`` is written as JSON; ``notes`` say more about what was found wrong."""

    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def broken_promises(self) -> list[str]:
        """In words, each promise that was not kept; empty if all were."""
        d = self.data
        writes, checks = d["writes"], d["checks"]
        decision, load = d["decision"], d["load"]
        kept = {
            "every plan was made from a forecast of excess": all(move["excess_at"] for move in d["moves"]),
            "no shard was above its reactive threshold when it was decided": (
                decision["max_utilisation"] < decision["reactive_threshold"]
            ),
            "every migration finished before the forecast excess": all(
                move["excess_at"] is not None
                and datetime.fromisoformat(move["finished_at"]) < datetime.fromisoformat(move["excess_at"])
                for move in d["moves"]
            ),
            "live samples were used by the forecast": load["live_samples_used"] > 0,
            "the forecast after the migration does not exceed": not any(
                risk["excess_at"] for risk in d["risk_after"].values()
            ),
            f"at least {MANY_WRITES:,} writes were acknowledged": writes["acknowledged"] >= MANY_WRITES,
            f"at least {WRITES_TO_MOVED:,} of them to moved buckets while they moved": (
                writes["to_moved_buckets"] >= WRITES_TO_MOVED
            ),
            f"at least {REDIRECTED_WRITES} writes were redirected before the cutover": (
                writes["redirected"] >= REDIRECTED_WRITES
            ),
            "no acknowledged write was lost": writes["lost"] == 0,
            "no write was doubled": writes["doubled"] == 0,
            "no refused write is there": writes["phantoms"] == 0,
            "checks ran and none failed": checks["passed"] > 0 and checks["failed"] == 0,
            "nothing of a migration is left over": d["leftovers"] == 0,
            "every migration is confirmed": all(move["confirmed"] for move in d["moves"]),
        }
        return [promise for promise, was_kept in kept.items() if not was_kept]

    def write(self, path: Path, broken: list[str]) -> None:
        """The report as JSON."""
        document = {**self.data, "broken_promises": broken, "notes": self.notes}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def print(self, console: Console, broken: list[str]) -> None:
        """The summary for a person."""
        d = self.data
        migration, writes, plan = d["migration"], d["writes"], d["plan"]
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold")
        table.add_column()
        table.add_row("forecast", f"{d['forecast']['series']} series in {d['forecast']['seconds']:.0f} s, "
                      f"{d['load']['live_samples_used']} live samples used")  # fmt: skip
        for shard in d["risk_before"]:
            table.add_row(
                f"risk of {shard}", f"{_risk(d['risk_before'][shard])}  ->  {_risk(d['risk_after'][shard])}"
            )
        table.add_row("plan", f"{len(plan['buckets'])} buckets, {plan['source']} to {plan['target']}, excess forecast "
                      f"for {_hour(plan['excess_at'])}")  # fmt: skip
        for move in d["moves"][1:]:
            what = f"{len(move['buckets'])} buckets, {move['source']} to {move['target']}"
            excess, finished = _hour(move["excess_at"]), _hour(move["finished_at"])
            table.add_row("also", f"{what}, excess forecast for {excess}, finished {finished}")
        table.add_row("stages", ", ".join(f"{name} {s:.1f} s" for name, s in migration["stages"].items()))
        table.add_row("moved", f"{migration['rows'] or 0:,} rows, {(migration['bytes'] or 0) / 1e6:,.0f} MB, finished "
                      f"{_hour(migration['finished_at'])} (fleet clock), {migration['runners']} runner(s)")  # fmt: skip
        pauses = [pause for pause in migration["write_pause_ms"] if pause is not None]
        if pauses:
            table.add_row("write pause", f"p50 {statistics.median(pauses):.1f} ms, max {max(pauses):.1f} ms, "
                          f"{len(migration['write_pause_ms'])} flips")  # fmt: skip
        table.add_row("writes", f"{writes['acknowledged']:,} acknowledged, {writes['to_moved_buckets']:,} to moved "
                      f"buckets, {writes['redirected']:,} redirected, [bold]{writes['lost']} lost, "
                      f"{writes['doubled']} doubled[/]")  # fmt: skip
        table.add_row("checks", f"{d['checks']['passed']} passed, {d['checks']['failed']} failed")
        table.add_row("left over", f"{d['leftovers']} objects")
        console.print(table, soft_wrap=not console.is_terminal)
        for note in self.notes:
            console.print(f"  {escape(note)}", style="red", highlight=False)
        for promise in broken:
            console.print(f"[bold red]broken:[/] {escape(promise)}", highlight=False)
        if not broken:
            console.print("[bold green]Every promise was kept.[/]")


def build_report(
    stack: Stack,
    control: ControlDatabase,
    before: DecisionRecord,
    after: DecisionRecord,
    migration_ids: Sequence[int],
) -> Report:
    """Reads everything back: from the control database, the servers, and the clients' own history.

    ``migration_ids``: of the plans of ``before``, in their order. Stages and sizes are told of the first; checks,
    pauses and writes of all.
    """
    migration_id = migration_ids[0]
    settings = load_settings()
    forecast = ForecastStore(control).get(before.forecast_run_id)
    plan = PlanStore(control).get(before.plan_ids[0])
    migrations = MigrationStore(control)
    record, confirmation = migrations.get(migration_id), migrations.confirmation(migration_id) or {}
    runs = _finished_stages(migrations, migration_id)
    gates = [gate for one in migration_ids for gate in FlipStore(control).gates(one)]
    flips = [flip for one in migration_ids for flip in FlipStore(control).flips(one)]
    placement = TopologyStore(control).placement()
    dsns = {shard: stack.fleet.operator_dsn(shard) for shard in SHARDS}
    with closing(Ledger(stack.ledger)) as ledger:
        found = check(ledger.operations(), ledger.starts(), OwnerReader(placement.of, dsns))
        to_moved = sum(_writes_while_moving(ledger, migrations, one) for one in migration_ids)
        redirected = ledger.redirected_before(runs["cutover"].started_at)
    left = leftovers.find(stack.fleet, placement.of)
    excess_at = plan.plan.excess_at
    moves = [_move(control, migrations.get(one), settings.clock.fleet_clock()) for one in migration_ids]
    seconds = confirmation.get("stage_seconds", {})
    data = {
        "forecast": {"series": forecast.series, "seconds": round(forecast.seconds, 1)},
        "load": {"live_samples_used": forecast.live_samples_used},
        "decision": {
            "max_utilisation": round(before.decision.max_utilisation, 4),
            "reactive_threshold": before.decision.reactive_threshold,
        },
        "risk_before": _risks(before),
        "risk_after": _risks(after),
        "plan": {
            "id": plan.id,
            "source": plan.plan.source,
            "target": plan.plan.target,
            "buckets": list(plan.plan.buckets),
            "excess_at": excess_at.isoformat() if excess_at else None,
            "start_by": plan.plan.timeline.start_by.isoformat(),
            "predicted_s": round(plan.plan.timeline.predicted_s, 1),
            "reasons": [reason.text for reason in plan.plan.reasons],
        },
        "migration": {
            "id": migration_id,
            "stages": {stage: seconds[stage] for stage in PATH if stage in seconds},
            "rows": confirmation.get("rows"),
            "bytes": confirmation.get("bytes"),
            "write_pause_ms": [flip.pause_ms for flip in flips if flip.state == "opened"],
            "finished_at": moves[0]["finished_at"],
            "runners": record.attempts,
        },
        "moves": moves,
        "writes": {**found.summary(), "redirected": redirected, "to_moved_buckets": to_moved},
        "checks": {
            "passed": sum(gate.evaluated - gate.failed for gate in gates),
            "failed": sum(gate.failed for gate in gates),
            "gates": [f"{gate.checkpoint} for flip {gate.flip_no}" for gate in gates],
        },
        "leftovers": len(left),
    }
    return Report(data, [*(f"left over: {what}" for what in left), *_findings(found)])


def _move(control: ControlDatabase, record: MigrationRecord, clock: FleetClock) -> dict[str, Any]:
    """A plan that was carried out, and when its migration ended; fleet time."""
    plan = PlanStore(control).get(record.plan_id).plan
    assert record.finished_at is not None
    return {
        "plan": record.plan_id,
        "migration": record.id,
        "source": record.source,
        "target": record.target,
        "buckets": list(record.buckets),
        "excess_at": plan.excess_at.isoformat() if plan.excess_at else None,
        "finished_at": clock.from_real(record.finished_at).isoformat(),
        "confirmed": bool(MigrationStore(control).confirmation(record.id)),
    }


def _finished_stages(migrations: MigrationStore, migration_id: int) -> dict[str, StageRun]:
    return {run.stage: run for run in migrations.stage_runs(migration_id) if run.outcome == "finished"}


def _writes_while_moving(ledger: Ledger, migrations: MigrationStore, migration_id: int) -> int:
    record, runs = migrations.get(migration_id), _finished_stages(migrations, migration_id)
    ended = runs["finalise"].finished_at or record.finished_at
    assert ended is not None
    return ledger.acknowledged_between(record.buckets, runs["backfill"].started_at, ended)


def _findings(found: CheckResult) -> list[str]:
    return [
        f"{kind}: {finding.bucket} {finding.tailnum}: {finding.what}"
        for kind, findings in (("lost", found.lost), ("doubled", found.doubled), ("phantom", found.phantoms))
        for finding in findings[:10]
    ]


def _risks(record: DecisionRecord) -> dict[str, dict[str, Any]]:
    return {
        risk.shard: {
            "score": round(risk.score, 4),
            "worst": risk.worst,
            "utilisation": round(risk.worst_resource.utilisation, 4),
            "predicted_utilisation": round(risk.worst_resource.predicted_utilisation, 4),
            "excess_at": risk.excess_at.isoformat() if risk.excess_at else None,
        }
        for risk in record.decision.risks
    }


def _risk(risk: dict[str, Any]) -> str:
    return (
        f"score {risk['score']:+.3f}, {risk['worst']} at {risk['utilisation']:.0%} now, "
        f"{risk['predicted_utilisation']:.0%} predicted"
    )


def _hour(moment: str | None) -> str:
    return f"{datetime.fromisoformat(moment):%H:%M} UTC" if moment else "never"
