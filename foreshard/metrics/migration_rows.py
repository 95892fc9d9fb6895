"""A row of `sql/metrics_migrations.sql` as what it tells of a migration. Pure.

The progress of a step is a document that runners of other versions wrote, too: what is not in it is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from foreshard.metrics.reading import (
    ApprovalReading,
    GateReading,
    MigrationReading,
    ProgressReading,
    StreamReading,
)
from foreshard.migration.lifecycle import Stage
from foreshard.quantities import BYTES
from foreshard.topology.keys import SLOTS


def migration(row: Mapping[str, Any], offset: timedelta, streams: Sequence[float | None]) -> MigrationReading:
    """The row's migration.

    ``offset``: of the fleet clock, which the plan's deadline is told by. ``streams``: of `sql/metrics_streams.sql`, the
    six figures; empty where nothing was read lately.
    """
    asked, gate, start_by = row["approval"], row["gate"], row["start_by"]
    wrong, pause_ms = row["wrong"], row["pause_ms"]
    signs = [at for at in (row["step_began_at"], row["progress_at"], row["created_at"]) if at is not None]
    return MigrationReading(
        id=row["id"],
        plan=row["plan_id"],
        source=row["source"],
        target=row["target"],
        stage=Stage(row["stage"]),
        owned=row["bound"] / SLOTS,
        waits_for=row["waiting_for"],
        failure=row["failure"],
        attempts=row["attempts"],
        flow_run_id=row["flow_run_id"],
        created_at=row["created_at"],
        lease_expires_at=row["lease_expires_at"],
        start_by=None if start_by is None else start_by - offset,
        busy_since=max(signs),
        progress=_progress(row),
        streams=tuple(_streams(row, streams)),
        approval=None
        if asked is None
        else ApprovalReading(asked, row["approval_state"], row["requested_at"], row["expires_at"]),
        gate=None
        if gate is None
        else GateReading(gate, row["checkpoint"], row["gate_passed"], row["gate_at"]),
        longest_pause_s=None if pause_ms is None else pause_ms / 1000,
        failed_verification=None if wrong is None else (wrong, row["wrong_findings"]),
        shadow_reads=row["shadow"] or {},
    )


def _progress(row: Mapping[str, Any]) -> ProgressReading | None:
    document, at = row["progress"], row["progress_at"]
    if not document or not isinstance(at, datetime):
        return None
    done, total = _number(document, "done"), _number(document, "total")
    if done is None or total is None:
        return None
    counts = document.get("unit") == BYTES
    rows = _number(document, "rows")
    return ProgressReading(
        step=str(row["step"]),
        at=at,
        fraction=min(1.0, done / total) if total > 0 else 1.0,
        bytes_done=done if counts else None,
        bytes_total=total if counts else None,
        rows=None if rows is None else int(rows),
        bytes_per_s=_number(document, "per_s") if counts else None,
        eta_s=_number(document, "eta_s"),
    )


def _streams(row: Mapping[str, Any], read: Sequence[float | None]) -> Iterator[StreamReading]:
    forward, reverse = read[:3], read[3:]
    for direction, shard, figures in (
        ("forward", row["source"], forward),
        ("reverse", row["target"], reverse),
    ):
        if any(one is not None for one in figures):
            yield StreamReading(direction, shard, *figures)


def _number(document: Mapping[str, Any], name: str) -> float | None:
    value = document.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
