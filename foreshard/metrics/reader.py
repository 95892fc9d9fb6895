"""Reads everything that metrics and alerts are made of, in a dozen queries of one snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import dict_row

from foreshard.control import float_arrays
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_sql import statement, transaction
from foreshard.forecast.band import QUANTILES, quantile_column
from foreshard.forecast.peak import PEAK_LEVELS, above
from foreshard.load.metric import ACTIVITY
from foreshard.metrics.migration_rows import migration
from foreshard.metrics.reading import (
    PAUSE_BOUNDS_S,
    FlipReading,
    ForecastReading,
    MigrationReading,
    PlanReading,
    Reading,
    ResourceReading,
    ShardReading,
)
from foreshard.settings import Settings
from foreshard.topology.keys import SLOTS

PRESENT = timedelta(minutes=5)
"""Load now is the mean of these."""

TIMEOUT_S = 4.0
"""The longest that one query may take: a scrape that comes late is no scrape."""

SHOWN = (0.05, 0.5, 0.95)
"""Quantiles of the band that are told of the present step."""


def read(control: ControlDatabase, settings: Settings) -> Reading:
    """The state of the fleet now.

    Raises:
        sqlalchemy.exc.SQLAlchemyError, psycopg.Error: the control database does not answer in time, or has not the
            tables of this version.
    """
    offset = timedelta(seconds=settings.clock.offset_seconds)
    with transaction(control, snapshot=True) as conn:
        conn.execute(f"SET LOCAL statement_timeout = {int(TIMEOUT_S * 1000)}".encode())
        row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        at: datetime = row[0].astimezone(UTC)
        forecast, bands = _forecast(conn, settings)
        shards = _shards(conn, settings, at, offset, bands)
        decided_at, states = conn.execute(statement("metrics_decision")).fetchall()[0]
        counts: dict[str, dict[tuple[str, str], int]] = {}
        for what, one, other, many in conn.execute(statement("metrics_counts")):
            counts.setdefault(what, {})[one, other] = many
        return Reading(
            at=at,
            offset=offset,
            shards=shards,
            forecast=forecast,
            decided_at=decided_at,
            plan_states=states or {},
            plans=[
                PlanReading(number, source, target, start_by and start_by - offset)
                for number, source, target, start_by in conn.execute(statement("metrics_plans"))
            ],
            migrations=_migrations(conn, offset),
            flips=_flips(conn),
            counts=counts,
            wal_budget_bytes=float(settings.migration.wal_budget_bytes),
        )


Bands = Mapping[tuple[str, str], tuple[datetime, Any, Any]]
"""By shard and resource: start of the first step (fleet clock), quantiles (T, 7), quantiles of the peak (17,)."""


def _forecast(conn: psycopg.Connection, settings: Settings) -> tuple[ForecastReading | None, Bands]:
    asked = {"step": settings.forecast.step_minutes, "hours": settings.forecast.horizon_hours}
    row = conn.execute(statement("metrics_forecast"), asked).fetchone()
    if row is None:
        return None, {}
    number, made_at, seconds, hours, _, models, notes = row
    with conn.cursor(binary=True) as cursor:
        float_arrays.use(cursor)
        rows = cursor.execute(statement("metrics_bands"), {"run": number}).fetchall()
    covered = [coverage for *_, coverage in rows if coverage is not None]
    coverage = sum(covered) / len(covered) if covered else None
    bands = {
        (shard, metric): (starts_at, quantiles, peak) for shard, metric, starts_at, quantiles, peak, _ in rows
    }
    return ForecastReading(number, made_at, seconds, hours, models, notes, coverage), bands


def _shards(
    conn: psycopg.Connection, settings: Settings, at: datetime, offset: timedelta, bands: Bands
) -> list[ShardReading]:
    known = conn.execute(statement("metrics_shards")).fetchall()
    limited = sorted({metric for _, capacity, _, _ in known for metric in capacity})
    now = {"now": at + offset, "present": PRESENT, "metrics": limited, "metric": ACTIVITY}
    load = {(shard, metric): mean for shard, metric, mean in conn.execute(statement("metrics_load"), now)}
    sampled: dict[str, datetime] = dict(conn.execute(statement("metrics_last_samples"), now).fetchall())
    level, step = settings.decision.predicted_quantile, timedelta(minutes=settings.forecast.step_minutes)
    found = []
    for name, capacity, buckets, leftovers in known:
        resources = [
            _resource(
                name, metric, float(capacity[metric]), load.get((name, metric)), bands.get((name, metric)),
                (at + offset, offset, step), level,
            )
            for metric in sorted(capacity)
            if (name, metric) in load or (name, metric) in bands
        ]  # fmt: skip
        seen = sampled.get(name)
        found.append(ShardReading(name, buckets, leftovers, seen and seen - offset, tuple(resources)))
    return found


def _resource(
    shard: str,
    metric: str,
    capacity: float,
    load: float | None,
    band: tuple[datetime, Any, Any] | None,
    clock: tuple[datetime, timedelta, timedelta],
    level: float,
) -> ResourceReading:
    """``clock``: now on the fleet's clock, its offset, the length of a step."""
    present = None if load is None or capacity <= 0 else load / capacity
    if band is None or capacity <= 0:
        return ResourceReading(shard, metric, present)
    (now, offset, step), (starts_at, quantiles, peak) = clock, band
    at = (now - starts_at) // step
    forecast = {}
    if 0 <= at < len(quantiles):
        forecast = {one: float(quantiles[at, quantile_column(one)]) / capacity for one in SHOWN}
    over = np.flatnonzero(quantiles[max(0, at) :, _column(level)] > capacity)
    first = None if not len(over) else starts_at + (max(0, at) + int(over[0])) * step - offset
    peaks = {one: float(np.interp(one, PEAK_LEVELS, peak)) / capacity for one in (0.5, level)}
    return ResourceReading(
        shard, metric, present, forecast, peaks, float(above(peak.astype(float), capacity)), first
    )


def _column(level: float) -> int:
    return min(range(len(QUANTILES)), key=lambda at: abs(QUANTILES[at] - level))


def _migrations(conn: psycopg.Connection, offset: timedelta) -> list[MigrationReading]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement("metrics_migrations")).fetchall()
    streams = {number: figures for number, *figures in conn.execute(statement("metrics_streams"))}
    return [migration(row, offset, streams.get(row["id"], ())) for row in rows]


def _flips(conn: psycopg.Connection) -> list[FlipReading]:
    asked = {"all": SLOTS, "bounds": list(PAUSE_BOUNDS_S)}
    counts: dict[str, list[int]] = {}
    sums: dict[str, float] = {}
    for kind, bucket, many, seconds in conn.execute(statement("metrics_flips"), asked):
        counts.setdefault(kind, [0] * (len(PAUSE_BOUNDS_S) + 1))[bucket] += many
        sums[kind] = sums.get(kind, 0.0) + float(seconds)
    return [FlipReading(kind, tuple(counts[kind]), sums[kind]) for kind in sorted(counts)]
