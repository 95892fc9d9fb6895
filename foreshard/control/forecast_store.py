"""Forecasts in the control database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import select

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import ForecastBand, ForecastRun
from foreshard.errors import NotFound
from foreshard.forecast.band import Band
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey


@dataclass(frozen=True)
class ForecastRecord:
    """One run of the forecast: when it was issued (fleet clock), over how much, from what."""

    id: int
    issued_at: datetime
    horizon_hours: float
    live_samples_used: int
    series: int
    seconds: float


class ForecastStore:
    """Reads and writes forecasts."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def save(
        self,
        issued_at: datetime,
        results: Sequence[ForecastResult],
        *,
        horizon_hours: float,
        live_samples_used: int,
        seconds: float,
    ) -> ForecastRecord:
        """Store one run with the band of every series."""
        with self._control.transaction() as session:
            run = ForecastRun(
                issued_at=issued_at, horizon_hours=horizon_hours, live_samples_used=live_samples_used,
                series=len(results), seconds=seconds,
            )  # fmt: skip
            session.add(run)
            session.flush()
            session.add_all(
                ForecastBand(
                    run_id=run.id, shard=one.key.shard or "", bucket=one.key.bucket or "", metric=one.key.metric,
                    model=one.model, trained_from=one.trained_from, trained_to=one.trained_to,
                    points=one.points, score=one.score, note=one.note, band=_to_json(one.band),
                )
                for one in results
            )  # fmt: skip
            return _record(run)

    def newest(self) -> ForecastRecord | None:
        """The newest run, or None."""
        with self._control.transaction() as session:
            run = session.scalar(select(ForecastRun).order_by(ForecastRun.id.desc()).limit(1))
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
        """All series of a run."""
        with self._control.transaction() as session:
            rows = session.scalars(select(ForecastBand).where(ForecastBand.run_id == run_id))
            return {result.key: result for result in map(_result, rows)}


def _record(run: ForecastRun) -> ForecastRecord:
    return ForecastRecord(
        run.id, run.issued_at, run.horizon_hours, run.live_samples_used, run.series, run.seconds
    )


def _result(row: ForecastBand) -> ForecastResult:
    return ForecastResult(
        SeriesKey(row.shard or None, row.bucket or None, row.metric), _from_json(row.band), row.model,
        row.trained_from, row.trained_to, row.points, row.score, row.note,
    )  # fmt: skip


def _to_json(band: Band) -> dict[str, Any]:
    return {"ts": [step.isoformat() for step in band.ts], "quantiles": band.quantiles.tolist()}


def _from_json(stored: dict[str, Any]) -> Band:
    return Band(
        pd.DatetimeIndex(pd.to_datetime(stored["ts"], utc=True)), np.array(stored["quantiles"], float)
    )
