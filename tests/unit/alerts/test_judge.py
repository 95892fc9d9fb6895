"""Which conditions are alerts, from facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from foreshard.alerts.alert import KINDS, Alert, AlertKind
from foreshard.alerts.alert_settings import AlertSettings
from foreshard.alerts.judge import judge
from foreshard.metrics.reading import (
    ApprovalReading,
    ForecastReading,
    GateReading,
    MigrationReading,
    Reading,
    ResourceReading,
    ShardReading,
    StreamReading,
)
from foreshard.migration.lifecycle import Stage

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
FINE = MigrationReading(
    id=7, plan=3, source="shard-1", target="shard-2", stage=Stage.BACKFILL, owned=0.0, waits_for=None, failure=None,
    attempts=1, flow_run_id="run", created_at=NOW - HOUR, lease_expires_at=NOW + MINUTE, start_by=NOW + HOUR,
    busy_since=NOW,
)  # fmt: skip
ASKED = replace(
    FINE, waits_for="approval", lease_expires_at=NOW - HOUR, start_by=NOW + 5 * HOUR,
    approval=ApprovalReading(4, "pending", NOW - 10 * MINUTE),
)  # fmt: skip


def judged(reading: Reading, begun: frozenset[str] = frozenset(), **settings: Any) -> list[Alert]:
    return judge(reading, AlertSettings(**settings), begun)


def of(one: MigrationReading, **settings: Any) -> list[Alert]:
    return judged(Reading(NOW, timedelta(0), migrations=[one], wal_budget_bytes=1000.0), **settings)


def shard(utilisation: float) -> Reading:
    return Reading(
        NOW,
        timedelta(0),
        shards=[ShardReading("s1", 1, 0, NOW, (ResourceReading("s1", "cpu_cores", utilisation),))],
    )


def forecast(age: timedelta) -> Reading:
    return Reading(NOW, timedelta(0), forecast=ForecastReading(5, NOW - age, 1.0, 24.0, {}, 0, None))


@pytest.mark.parametrize("one", [FINE, ASKED])
def test_what_goes_on_as_it_should_is_no_alert(one: MigrationReading) -> None:
    assert of(one) == []


@pytest.mark.parametrize(
    ("kind", "one"),
    [
        (AlertKind.APPROVAL_OVERDUE, replace(ASKED, start_by=NOW + 29 * MINUTE)),
        (AlertKind.APPROVAL_OVERDUE, replace(ASKED, start_by=NOW - HOUR)),
        (AlertKind.APPROVAL_WAITING, replace(ASKED, approval=ApprovalReading(4, "pending", NOW - 61 * MINUTE))),
        (
            AlertKind.APPROVAL_EXPIRED,
            replace(ASKED, approval=ApprovalReading(4, "pending", NOW - 25 * HOUR, NOW - HOUR)),
        ),
        (AlertKind.APPROVAL_EXPIRED, replace(ASKED, approval=ApprovalReading(4, "expired", NOW - HOUR))),
        (AlertKind.LAG, replace(FINE, streams=(StreamReading("forward", "shard-1", lag_seconds=61.0),))),
        (AlertKind.WAL, replace(FINE, streams=(StreamReading("reverse", "shard-2", wal_bytes=501.0),))),
        (AlertKind.VERIFICATION_FAILED, replace(FINE, failed_verification=(9, 2))),
        (AlertKind.MIGRATION_FAILED, replace(FINE, failure="StreamBroken: it is gone")),
        (AlertKind.MIGRATION_STUCK, replace(FINE, busy_since=NOW - 31 * MINUTE)),
        (AlertKind.MIGRATION_UNDRIVEN, replace(FINE, lease_expires_at=NOW - 4 * MINUTE)),
        (AlertKind.MIGRATION_UNDRIVEN, replace(FINE, lease_expires_at=None)),
        (AlertKind.GATE_NO, replace(FINE, gate=GateReading(1, "before_cutover", False, NOW))),
        (
            AlertKind.GATE_NO,
            replace(FINE, failure="GateRefused: no", gate=GateReading(1, "before_cutover", False, NOW)),
        ),
    ],
)  # fmt: skip
def test_a_migration_that_needs_somebody(kind: AlertKind, one: MigrationReading) -> None:
    (alert,) = of(one)
    assert (alert.kind, alert.migration, alert.flow_run_id) == (kind, 7, "run")
    assert alert.title == f"migration 7 (shard-1 to shard-2): {KINDS[kind].title}"
    assert alert.key.startswith(f"{kind}/7")
    assert " N`" not in alert.remedy


def test_deadline_and_patience_are_settings() -> None:
    late = replace(ASKED, start_by=NOW + 29 * MINUTE)
    assert of(late, approval_margin_s=0) == []
    assert [one.kind for one in of(ASKED, approval_waiting_s=60)] == [AlertKind.APPROVAL_WAITING]


def test_the_fleet() -> None:
    assert judged(Reading(NOW, timedelta(0))) == []  # it is being set up
    assert judged(forecast(HOUR)) == []
    (late,) = judged(forecast(3 * HOUR))
    assert (late.key, late.since) == ("forecast-late", NOW - 3 * HOUR)
    assert "3 h old" in late.text
    assert judged(shard(1.0)) == []
    (over,) = judged(shard(1.2))
    assert (over.key, over.shard) == ("over-capacity/s1/cpu_cores", "s1")
    assert "120% of its capacity of cpu cores" in over.text


def test_what_hovers_at_its_threshold_is_one_alert() -> None:
    begun = frozenset({"over-capacity/s1/cpu_cores"})
    assert [one.key for one in judged(shard(0.97), begun)] == ["over-capacity/s1/cpu_cores"]
    assert judged(shard(0.94), begun) == []
    assert judged(shard(0.97)) == []


def test_the_key_outlasts_figures_and_tells_attempts_apart() -> None:
    first = of(replace(ASKED, start_by=NOW - HOUR))[0]
    later = of(replace(ASKED, start_by=NOW - 2 * HOUR))[0]
    again = of(replace(ASKED, start_by=NOW - HOUR, approval=ApprovalReading(5, "pending", NOW)))[0]
    assert first.key == later.key != again.key


@pytest.mark.parametrize("block", ["dba", "a/b/c", "/dba", "slack-webhook/"])
def test_a_block_is_named_by_type_and_name(block: str) -> None:
    with pytest.raises(ValueError, match="is not TYPE/NAME"):
        AlertSettings(blocks=(block,))


def test_every_kind_has_words() -> None:
    assert set(KINDS) == set(AlertKind)
