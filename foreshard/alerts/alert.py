"""An alert: a condition that holds of something, with a stable identity. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AlertKind(StrEnum):
    """What the matter can be. Each has an automation of its own, so that one can be switched off."""

    APPROVAL_OVERDUE = "approval-overdue"
    APPROVAL_WAITING = "approval-waiting"
    APPROVAL_EXPIRED = "approval-expired"
    LAG = "lag"
    WAL = "wal"
    FORECAST_LATE = "forecast-late"
    VERIFICATION_FAILED = "verification-failed"
    MIGRATION_FAILED = "migration-failed"
    MIGRATION_STUCK = "migration-stuck"
    MIGRATION_UNDRIVEN = "migration-undriven"
    GATE_NO = "gate-no"
    OVER_CAPACITY = "over-capacity"


@dataclass(frozen=True)
class Kind:
    """``title``: of its automation. ``meaning`` and ``remedy``: for the table of the docs."""

    title: str
    meaning: str
    remedy: str


KINDS: dict[AlertKind, Kind] = {
    AlertKind.APPROVAL_OVERDUE: Kind(
        "approval overdue",
        "A migration waits for approval, and its plan's start-by deadline, less `alerts.approval_margin_s`, is over.",
        "Approve or reject it now: later the source may exceed its capacity before the migration ends.",
    ),
    AlertKind.APPROVAL_WAITING: Kind(
        "approval waits long",
        "A migration has waited for a person for longer than `alerts.approval_waiting_s`.",
        "Approve or reject it: both sides keep WAL for it, and its shards take no other migration.",
    ),
    AlertKind.APPROVAL_EXPIRED: Kind(
        "approval expired",
        "Nobody answered within the approval's time; nothing was flipped.",
        "Start migrate with the migration's number to be asked again, or abort it.",
    ),
    AlertKind.LAG: Kind(
        "stream behind",
        "A stream of a migration is more than `alerts.lag_s` behind.",
        "Look for long transactions and locks on the subscriber, and at its disk and processors.",
    ),
    AlertKind.WAL: Kind(
        "WAL budget at risk",
        "A shard keeps more than `alerts.wal_share` of `migration.wal_budget_bytes` for a migration.",
        "Find what keeps its subscriber from applying; above the budget the migration is given up by itself.",
    ),
    AlertKind.FORECAST_LATE: Kind(
        "forecast late",
        "The newest forecast of the whole fleet is older than `alerts.forecast_late_s`, or there is none.",
        "Look at the runs of forecast and collect, and whether `foreshard serve` or the workers run.",
    ),
    AlertKind.VERIFICATION_FAILED: Kind(
        "verification failed",
        "Source and target of a migration differ where they must be equal; it is not finalised.",
        "See `foreshard check diff N`; mend by `foreshard check repair N`, or reverse it.",
    ),
    AlertKind.MIGRATION_FAILED: Kind(
        "migration failed",
        "A run of a migration failed and nobody goes on with it; keys keep their owners.",
        "Mend the cause that its failure names, then start migrate with its number, or abort or reverse it.",
    ),
    AlertKind.MIGRATION_STUCK: Kind(
        "migration stuck",
        "A migration is driven, and has shown no sign of work for longer than `alerts.stuck_s`.",
        "Look at its run's log and at locks on both shards; `foreshard abort N` or `reverse N` gives it up.",
    ),
    AlertKind.MIGRATION_UNDRIVEN: Kind(
        "migration without a driver",
        "Nobody has driven a migration for longer than `alerts.undriven_s`, nor waits it for a person.",
        "Its run was cancelled, or no worker takes runs: start migrate with its number, or `foreshard serve`.",
    ),
    AlertKind.GATE_NO: Kind(
        "checks said no",
        "The newest checks of a migration did not pass; it does not go on.",
        "Read their verdict; mend what it names, then start migrate with its number: they run again.",
    ),
    AlertKind.OVER_CAPACITY: Kind(
        "shard over capacity",
        "A shard's load, mean of the last five minutes, is above the capacity of a resource.",
        "See `foreshard status` and the newest decision; correct the capacity if it is not what the shard can bear.",
    ),
}
"""Every kind in words."""


@dataclass(frozen=True)
class Alert:
    """A condition that holds now.

    ``key``: the same as long as the same condition lasts. ``subject``: ``migration 7 (shard-1 to shard-2)``, ``fleet``.
    ``text``: what, and by how much. ``since``: when it began, as far as known.
    """

    kind: AlertKind
    key: str
    subject: str
    text: str
    remedy: str
    since: datetime
    migration: int | None = None
    shard: str | None = None
    flow_run_id: str | None = None

    @property
    def title(self) -> str:
        """One line."""
        return f"{self.subject}: {KINDS[self.kind].title}"
