"""Forecasts in the control database: bands by run, and the last known good fits of the global models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from sqlalchemy import exists, select

from foreshard.control import float_arrays
from foreshard.control.engine import ControlDatabase
from foreshard.control.float_arrays import Floats32
from foreshard.control.load_sql import transaction
from foreshard.control.models import ForecastBand, ForecastFit, ForecastRun
from foreshard.errors import NotFound
from foreshard.forecast.band import Band
from foreshard.forecast.peak import Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey

if TYPE_CHECKING:
    import pandas as pd

    from foreshard.forecast.forecast_options import Before

_COLUMNS = (
    "run_id, shard, bucket, metric, model, weights, scores, coverage, trained_from, trained_to, points, note, "
    "starts_at, quantiles, peak"
)
_TYPES = (
    "int4", "text", "text", "text", "text", "jsonb", "jsonb", "float8", "timestamptz", "timestamptz", "int4",
    "text", "timestamptz", "float4[]", "float4[]",
)  # fmt: skip
_LARGEST = float(np.finfo(np.float32).max)

_TRIM_BANDS = """
DELETE FROM forecast_bands WHERE run_id IN (
    SELECT id FROM forecast_runs WHERE created_at < now() - %s AND id <> ALL (%s))
"""
_TRIM_RUNS = """
DELETE FROM forecast_runs WHERE created_at < now() - %s AND id <> ALL (%s)
    AND NOT EXISTS (SELECT FROM decisions WHERE forecast_run_id = forecast_runs.id)
"""
_KEEP = """
INSERT INTO forecast_fits (name, step_minutes, fitted_at, trained_from, trained_to, series, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (name, step_minutes) DO UPDATE SET fitted_at = excluded.fitted_at, payload = excluded.payload,
    trained_from = excluded.trained_from, trained_to = excluded.trained_to, series = excluded.series
WHERE forecast_fits.payload <> excluded.payload
"""


@dataclass(frozen=True)
class ForecastRecord:
    """One run of the forecast: when it was issued (fleet clock), over how much, from what.

    ``metrics``: the only ones that were asked for, None for all. ``counts``: of how many series each model is the
    champion. ``notes``: what went otherwise than it should have.
    """

    id: int
    issued_at: datetime
    horizon_hours: float
    step: timedelta
    live_samples_used: int
    series: int
    seconds: float
    metrics: tuple[str, ...] | None
    parameters: Mapping[str, Any]
    counts: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FitRecord:
    """A kept fit of a global model: learnt when (fleet clock), from what."""

    name: str
    fitted_at: datetime
    trained_from: datetime
    trained_to: datetime
    series: int
    payload: bytes


class ForecastStore:
    """Reads and writes forecasts."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def save(
        self,
        issued_at: datetime,
        results: Sequence[ForecastResult],
        *,
        step: timedelta,
        horizon_hours: float,
        live_samples_used: int,
        seconds: float,
        metrics: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> ForecastRecord:
        """Store one run with the band of every series, or nothing of it. Values are kept in single precision."""
        run = ForecastRun(
            issued_at=issued_at, horizon_hours=horizon_hours, step_minutes=_minutes(step), series=len(results),
            live_samples_used=live_samples_used, seconds=seconds, parameters=dict(parameters or {}),
            metrics=None if metrics is None else list(metrics), notes=list(notes),
            counts=dict(Counter(one.model for one in results).most_common()),
        )  # fmt: skip
        with self._control.transaction() as session:
            session.add(run)
            session.flush()
            conn = session.connection().connection.driver_connection
            assert isinstance(conn, psycopg.Connection)
            with conn.cursor() as cursor:
                float_arrays.use(cursor)
                with cursor.copy(f"COPY forecast_bands ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(_TYPES)
                    for row in _rows(run.id, results):
                        copy.write_row(row)
            return _record(run)

    def trim(self, keep: timedelta) -> None:
        """Drop the bands of runs older than ``keep``, and the runs themselves unless a decision was made on them.

        The newest of each step stay, however old.
        """
        with transaction(self._control) as conn:
            newest = conn.execute("SELECT max(id) FROM forecast_runs GROUP BY step_minutes, metrics IS NULL")
            stay = [number for (number,) in newest]
            conn.execute(_TRIM_BANDS, (keep, stay))
            conn.execute(_TRIM_RUNS, (keep, stay))

    def newest(self, step: timedelta | None = None) -> ForecastRecord | None:
        """The newest run whose bands are there, of this step if one is given; or None."""
        return self._newest(() if step is None else (ForecastRun.step_minutes == _minutes(step),))

    def newest_whole(self, step: timedelta, horizon_hours: float = 0.0) -> ForecastRecord | None:
        """The newest run of all metrics of the fleet, of this step and at least that far ahead; or None."""
        return self._newest(
            (
                ForecastRun.step_minutes == _minutes(step),
                ForecastRun.horizon_hours >= horizon_hours,
                ForecastRun.metrics.is_(None),
            )
        )

    def _newest(self, conditions: Sequence[Any]) -> ForecastRecord | None:
        bands = exists().where(ForecastBand.run_id == ForecastRun.id)
        query = select(ForecastRun).where(bands, *conditions).order_by(ForecastRun.id.desc()).limit(1)
        with self._control.transaction() as session:
            run = session.scalar(query)
            return None if run is None else _record(run)

    def get(self, run_id: int) -> ForecastRecord:
        """One run.

        Raises:
            NotFound: no such run.
        """
        with self._control.transaction() as session:
            run = session.get(ForecastRun, run_id)
            if run is None:
                raise NotFound(f"There is no forecast {run_id}.", remedy="Run the forecast flow.")
            return _record(run)

    def results(self, run_id: int) -> dict[SeriesKey, ForecastResult]:
        """All series of a run; empty if its bands are no longer kept."""
        return {one.key: one for one in self._results(run_id, None)}

    def result(self, run_id: int, key: SeriesKey) -> ForecastResult | None:
        """One series of a run, or None."""
        return next(self._results(run_id, key), None)

    def _results(self, run_id: int, key: SeriesKey | None) -> Iterator[ForecastResult]:
        step = self.get(run_id).step
        query = f"SELECT {_COLUMNS} FROM forecast_bands WHERE run_id = %s"
        given: list[Any] = [run_id]
        if key is not None:
            query += " AND (shard, bucket, metric) = (%s, %s, %s)"
            given += [key.shard or "", key.bucket or "", key.metric]
        with transaction(self._control) as conn, conn.cursor(binary=True) as cursor:
            float_arrays.use(cursor)
            rows = cursor.execute(query.encode(), given).fetchall()
        times: dict[tuple[datetime, int], pd.DatetimeIndex] = {}
        for row in rows:
            yield _result(row, step, times)

    def before(self, step: timedelta) -> dict[SeriesKey, Before]:
        """Each series' champion and scores in the newest run of all metrics at this step."""
        # Here, since the models' libraries take seconds, and commands only read bands.
        from foreshard.forecast.forecast_options import Before

        newest = self.newest_whole(step)
        if newest is None:
            return {}
        query = "SELECT shard, bucket, metric, model, scores FROM forecast_bands WHERE run_id = %s"
        with transaction(self._control) as conn:
            rows = conn.execute(query, (newest.id,)).fetchall()
        return {
            SeriesKey(shard or None, bucket or None, metric): Before(model, scores)
            for shard, bucket, metric, model, scores in rows
        }

    def kept(self, step: timedelta) -> dict[str, FitRecord]:
        """The last known good fits of the global models at this step, by name."""
        query = select(ForecastFit).where(ForecastFit.step_minutes == _minutes(step))
        with self._control.transaction() as session:
            return {
                row.name: FitRecord(
                    row.name, row.fitted_at, row.trained_from, row.trained_to, row.series, row.payload
                )
                for row in session.scalars(query)
            }

    def keep(
        self,
        step: timedelta,
        fits: Mapping[str, bytes],
        at: datetime,
        span: tuple[datetime, datetime],
        series: int,
    ) -> None:
        """Keep ``fits``, learnt at ``at`` from the load of that span, in the place of those before.

        One that is the same as the kept one was not learnt anew and stays as it is.
        """
        rows = [(name, _minutes(step), at, *span, series, payload) for name, payload in fits.items()]
        with transaction(self._control) as conn, conn.cursor() as cursor:
            cursor.executemany(_KEEP, rows)


def _minutes(step: timedelta) -> int:
    return step // timedelta(minutes=1)


def _record(run: ForecastRun) -> ForecastRecord:
    return ForecastRecord(
        run.id, run.issued_at, run.horizon_hours, timedelta(minutes=run.step_minutes), run.live_samples_used,
        run.series, run.seconds, None if run.metrics is None else tuple(run.metrics), dict(run.parameters),
        dict(run.counts), tuple(run.notes),
    )  # fmt: skip


def _rows(run_id: int, results: Sequence[ForecastResult]) -> Iterator[tuple[Any, ...]]:
    for one in results:
        key = one.key
        yield (
            run_id, key.shard or "", key.bucket or "", key.metric, one.model, Jsonb(_finite(one.weights)),
            Jsonb(_finite(one.scores)), one.coverage, one.trained_from, one.trained_to, one.points, one.note,
            one.band.ts[0].to_pydatetime(), _single(one.band.quantiles), _single(one.peak.values),
        )  # fmt: skip


def _single(values: np.ndarray) -> Floats32:
    # Rounding keeps the order, and so quantiles that do not cross.
    single: Floats32 = np.minimum(values, _LARGEST).astype(np.float32)
    return single


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """What JSON can hold."""
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def _result(
    row: TupleRow, step: timedelta, times: dict[tuple[datetime, int], pd.DatetimeIndex]
) -> ForecastResult:
    """``times``: those that were made already; nearly all series of a run share one."""
    (_, shard, bucket, metric, model, weights, scores, coverage, trained_from, trained_to, points, note, starts_at,
     quantiles, peak) = row  # fmt: skip
    import pandas as pd  # here: migrations ask only whether a forecast is there

    at = starts_at, len(quantiles)
    if at not in times:
        times[at] = pd.date_range(starts_at, periods=len(quantiles), freq=step, tz="UTC")
    return ForecastResult(
        SeriesKey(shard or None, bucket or None, metric), Band(times[at], quantiles.astype(float)),
        Peak(peak.astype(float)), model, weights, scores, coverage, trained_from, trained_to, points, note,
    )  # fmt: skip
