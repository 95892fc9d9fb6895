"""The document of the one immutable confirmation row: what a migration did, for whoever asks later."""

from __future__ import annotations

from typing import Any

from foreshard.migration.lifecycle import Stage
from foreshard.migration.work import Work


def document(work: Work, end: Stage) -> dict[str, Any]:
    """Times, pauses, digests, checks and approvers of a migration that is about to reach ``end``. Plain JSON."""
    record = work.record
    runs = work.store.stage_runs(record.id)
    seconds: dict[str, float] = {}
    for run in runs:
        if run.finished_at is not None:
            spent = (run.finished_at - run.started_at).total_seconds()
            seconds[run.stage] = round(seconds.get(run.stage, 0.0) + spent, 3)
    finished = {run.stage: run.detail for run in runs if run.outcome == "finished"}
    return {
        "migration": record.id,
        "plan": record.plan_id,
        "source": record.source,
        "target": record.target,
        "buckets": list(record.buckets),
        "outcome": end.value,
        "started_at": record.created_at.isoformat(),
        "stage_seconds": seconds,
        "rows": finished.get("verify", {}).get("rows"),
        "bytes": finished.get("backfill", {}).get("bytes"),
        "canary": record.facts.get("canary", {}),
        "canary_obstacles": record.facts.get("canary_obstacles", []),
        "flips": [
            {
                "flip": flip.flip_no,
                "from": flip.from_bound,
                "to": flip.to_bound,
                "state": flip.state,
                "pause_ms": None if flip.pause_ms is None else round(flip.pause_ms, 3),
                "attempts": flip.attempts,
            }
            for flip in work.flips.flips(record.id)
        ],
        "checks": [
            {
                "checkpoint": gate.checkpoint,
                "flip": gate.flip_no,
                "passed": gate.passed,
                "evaluated": gate.evaluated,
                "expected": gate.expected,
                "failed": gate.failed,
                "evidence_sha256": gate.evidence_sha256,
                "made_at": gate.made_at.isoformat(),
            }
            for gate in work.flips.gates(record.id)
        ],
        "approvals": [
            {
                "flip": approval.flip_no,
                "state": approval.state,
                "approver": approval.approver,
                "comment": approval.comment,
                "decided_at": approval.decided_at and approval.decided_at.isoformat(),
            }
            for approval in work.flips.approvals(record.id)
        ],
        "notes": [str(detail["note"]) for detail in finished.values() if "note" in detail],
        "way_back_ended_by": record.facts.get("way_back_ended_by"),
        "shadow_reads": work.shadows.totals(record.id).__dict__,
        "runners": record.attempts,
    }
