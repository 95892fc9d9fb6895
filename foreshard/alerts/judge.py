"""Which conditions hold now. Pure: facts in, alerts out; what was told before is not its business."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from foreshard.alerts.alert import KINDS, Alert, AlertKind
from foreshard.alerts.alert_settings import AlertSettings
from foreshard.errors import GateRefused, VerificationFailed
from foreshard.metrics.reading import ApprovalReading, MigrationReading, Reading
from foreshard.quantities import duration, many, resource, size

CALM = 0.95
"""An alert of an amount that has begun ends below this part of its threshold: what hovers there is told once."""


def judge(
    reading: Reading,
    settings: AlertSettings,
    begun: frozenset[str] = frozenset(),
) -> list[Alert]:
    """All alerts of ``reading``.

    ``begun``: keys of the alerts that have begun and not ended. A fleet that never had a forecast is no alert: it is
    being set up.
    """
    judged = _Judge(reading, settings, begun)
    return [*judged.forecast(), *judged.shards(), *judged.migrations()]


class _Judge:
    def __init__(self, reading: Reading, settings: AlertSettings, begun: frozenset[str]) -> None:
        self._reading, self._settings, self._begun = reading, settings, begun
        self._now = reading.at

    def forecast(self) -> Iterator[Alert]:
        newest, kind = self._reading.forecast, AlertKind.FORECAST_LATE
        if newest is None:
            return
        age = (self._now - newest.made_at).total_seconds()
        if age > self._settings.forecast_late_s:
            due = duration(self._settings.forecast_late_s)
            text = f"Forecast {newest.id}, the newest, is {duration(age)} old; one is due within {due}."
            yield Alert(kind, kind.value, "fleet", text, KINDS[kind].remedy, newest.made_at)

    def shards(self) -> Iterator[Alert]:
        kind = AlertKind.OVER_CAPACITY
        for shard in self._reading.shards:
            for one in shard.resources:
                key = f"{kind}/{shard.shard}/{one.resource}"
                if one.utilisation is not None and self._above(key, one.utilisation, 1.0):
                    text = f"{shard.shard} is at {one.utilisation:.0%} of its capacity of {resource(one.resource)}."
                    yield Alert(
                        kind, key, f"{shard.shard}, {resource(one.resource)}", text, KINDS[kind].remedy, self._now,
                        shard=shard.shard,
                    )  # fmt: skip

    def migrations(self) -> Iterator[Alert]:
        for one in self._reading.migrations:
            yield from self._asked(one)
            yield from self._driven(one)
            yield from self._checked(one)
            yield from self._streams(one)

    def _asked(self, one: MigrationReading) -> Iterator[Alert]:
        asked = one.approval
        if asked is None:
            return
        expires_at = asked.expires_at or self._now
        lapsed = one.waits is not None and expires_at < self._now
        if asked.state == "expired" or lapsed:
            text = f"Nobody answered attempt {asked.id}, asked at {asked.requested_at:%Y-%m-%d %H:%M} UTC, in time."
            yield self._of(one, AlertKind.APPROVAL_EXPIRED, text, expires_at, str(asked.id))
        elif one.waits is not None:
            yield from self._waits(one, one.waits)

    def _waits(self, one: MigrationReading, asked: ApprovalReading) -> Iterator[Alert]:
        waited = (self._now - asked.requested_at).total_seconds()
        margin = timedelta(seconds=self._settings.approval_margin_s)
        if one.start_by is not None and self._now >= one.start_by - margin:
            left = (one.start_by - self._now).total_seconds()
            when = f"is over since {duration(-left)}" if left < 0 else f"is in {duration(left)}"
            text = (
                f"It has waited for approval for {duration(waited)}; the latest time for its plan to start in time "
                f"{when} ({one.start_by:%Y-%m-%d %H:%M} UTC)."
            )
            since = max(asked.requested_at, one.start_by - margin)
            yield self._of(one, AlertKind.APPROVAL_OVERDUE, text, since, str(asked.id))
        elif waited > self._settings.approval_waiting_s:
            text = f"It has waited for approval for {duration(waited)}."
            yield self._of(one, AlertKind.APPROVAL_WAITING, text, asked.requested_at, str(asked.id))

    def _driven(self, one: MigrationReading) -> Iterator[Alert]:
        if one.failure is not None:
            if _told_elsewhere(one, one.failure):
                return
            text = f"It stands at {one.stage}: {one.failure}"
            yield self._of(one, AlertKind.MIGRATION_FAILED, text, self._now, str(one.attempts))
        elif one.waits_for is not None:
            return
        elif one.lease_expires_at is None or one.lease_expires_at < self._now:
            since = one.lease_expires_at or one.created_at
            alone = (self._now - since).total_seconds()
            if alone > self._settings.undriven_s:
                text = f"It stands at {one.stage}; nobody has driven it for {duration(alone)}."
                yield self._of(one, AlertKind.MIGRATION_UNDRIVEN, text, since, str(one.attempts))
        else:
            idle = (self._now - one.busy_since).total_seconds()
            if idle > self._settings.stuck_s:
                text = f"It is at {one.stage}, and has shown no sign of work for {duration(idle)}."
                yield self._of(one, AlertKind.MIGRATION_STUCK, text, one.busy_since, str(one.attempts))

    def _checked(self, one: MigrationReading) -> Iterator[Alert]:
        if one.failed_verification is not None:
            number, findings = one.failed_verification
            text = f"Verification {number} has {many(max(1, findings), 'finding')}."
            yield self._of(one, AlertKind.VERIFICATION_FAILED, text, self._now)
        if one.gate is not None and not one.gate.passed:
            text = f"The checks {one.gate.checkpoint} did not pass at {one.gate.made_at:%Y-%m-%d %H:%M} UTC."
            yield self._of(one, AlertKind.GATE_NO, text, one.gate.made_at)

    def _streams(self, one: MigrationReading) -> Iterator[Alert]:
        budget = self._reading.wal_budget_bytes
        for stream in one.streams:
            lag, wal = (
                f"{AlertKind.LAG}/{one.id}/{stream.direction}",
                f"{AlertKind.WAL}/{one.id}/{stream.direction}",
            )
            if stream.lag_seconds is not None and self._above(lag, stream.lag_seconds, self._settings.lag_s):
                text = (
                    f"Its {stream.direction} stream is {duration(stream.lag_seconds)} behind {stream.shard}."
                )
                yield self._of(one, AlertKind.LAG, text, self._now, stream.direction)
            if (
                stream.wal_bytes is not None
                and budget > 0
                and self._above(wal, stream.wal_bytes / budget, self._settings.wal_share)
            ):
                text = (
                    f"{stream.shard} keeps {size(stream.wal_bytes)} of WAL for its {stream.direction} stream, "
                    f"{stream.wal_bytes / budget:.0%} of the budget of {size(budget)}."
                )
                yield self._of(one, AlertKind.WAL, text, self._now, stream.direction)

    def _above(self, key: str, value: float, threshold: float) -> bool:
        return value > (CALM * threshold if key in self._begun else threshold)

    def _of(
        self, one: MigrationReading, kind: AlertKind, text: str, since: datetime, part: str = ""
    ) -> Alert:
        key = f"{kind}/{one.id}/{part}" if part else f"{kind}/{one.id}"
        return Alert(
            kind, key, f"migration {one.id} ({one.source} to {one.target})", text,
            KINDS[kind].remedy.replace(" N`", f" {one.id}`"), since, migration=one.id, flow_run_id=one.flow_run_id,
        )  # fmt: skip


def _told_elsewhere(one: MigrationReading, failure: str) -> bool:
    """It failed by a verdict that is an alert of its own: one cause is told once."""
    by_gate = one.gate is not None and not one.gate.passed and failure.startswith(GateRefused.__name__)
    return by_gate or (
        one.failed_verification is not None and failure.startswith(VerificationFailed.__name__)
    )
