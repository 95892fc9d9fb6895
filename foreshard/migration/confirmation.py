"""The document of the one immutable confirmation row: what a migration did, for whoever asks later."""

from __future__ import annotations

from typing import Any

from foreshard.control.repair_store import RepairStore
from foreshard.control.verification_store import VerificationStore
from foreshard.migration import reckoning
from foreshard.migration.lifecycle import Stage
from foreshard.migration.work import Work


def document(work: Work, end: Stage) -> dict[str, Any]:
    """Times, pauses, digests, checks and approvers of a migration that is about to reach ``end``. Plain JSON."""
    record = work.record
    runs = work.store.stage_runs(record.id)
    flips = work.flips.flips(record.id)
    prediction = work.plans.prediction(record.plan_id)
    finished = {run.stage: run.detail for run in runs if run.outcome == "finished"}
    return {
        "migration": record.id,
        "plan": record.plan_id,
        "source": record.source,
        "target": record.target,
        "buckets": list(record.buckets),
        "outcome": end.value,
        "started_at": record.created_at.isoformat(),
        "stage_seconds": reckoning.stage_seconds(runs),
        "predicted": reckoning.predicted(prediction),
        "predicted_by": [] if prediction is None else list(prediction.rates),
        "measured": reckoning.measured(runs, flips, record.facts),
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
            for flip in flips
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
                "verified": approval.verified,
                "way": approval.way,
                "comment": approval.comment,
                "asked_at": approval.requested_at.isoformat(),
                "expires_at": approval.expires_at.isoformat(),
                "decided_at": approval.decided_at and approval.decided_at.isoformat(),
                "why_asked": approval.why,
                "evidence_sha256": approval.evidence_sha256,
            }
            for approval in work.approvals.of(record.id)
        ],
        "not_asked": [
            {"flip": event.flip_no, "why": event.why}
            for event in work.approvals.events(record.id)
            if event.event == "not_asked"
        ],
        "notes": [str(detail["note"]) for detail in finished.values() if "note" in detail],
        "verifications": [
            {
                "verification": one.id,
                "bucket": one.bucket,
                "passed": one.passed,
                "made_by": one.made_by,
                "begun_at": one.begun_at.isoformat(),
            }
            for one in VerificationStore(work.control).of(record.id)
        ],
        "repairs": [
            {
                "said_by": one.said_by,
                "shard": one.shard,
                "table": f"{one.bucket}.{one.table}",
                "what": one.what,
                "rows": len(one.keys),
                "at": one.at.isoformat(),
            }
            for one in RepairStore(work.control).of(record.id)
        ],
        "way_back_ended_by": record.facts.get("way_back_ended_by"),
        "verification_overruled": record.facts.get("verification_overruled"),
        "shadow_reads": work.shadows.totals(record.id).__dict__,
        "runners": record.attempts,
    }
