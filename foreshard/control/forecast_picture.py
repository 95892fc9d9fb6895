"""What is drawn of a stored forecast: its band, its shard's capacity, and the history that leads to it."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import forecast_input
from foreshard.control.forecast_store import ForecastRecord
from foreshard.control.topology_store import TopologyStore
from foreshard.forecast.panel import Panel
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture, shown_history
from foreshard.settings import Settings


def capacity_of(control: ControlDatabase, key: SeriesKey) -> float | None:
    """The capacity that limits a series; None for a bucket, a shard that is no more, and what is not limited."""
    capacities = {shard.name: shard.capacity for shard in TopologyStore(control).shards()}
    return capacities.get(key.shard or "", {}).get(key.metric)


def history_of(panel: Panel, result: ForecastResult) -> pd.Series[float]:
    """As much of the panel's end as is shown before the result's band; empty if the panel does not hold its series."""
    if result.key not in panel.keys:
        return pd.Series(dtype=float, index=pd.DatetimeIndex([], tz="UTC"))
    shown = panel.last(shown_history(len(result.band.ts) * panel.step) // panel.step)
    values = shown.values[shown.keys.index(result.key)].astype(float)
    return pd.Series(values, index=shown.times(0, shown.steps))


def read_picture(
    control: ControlDatabase, settings: Settings, record: ForecastRecord, result: ForecastResult
) -> ForecastPicture:
    """With the history as it is known now, under the present placement."""
    begin = pd.Timestamp(result.band.ts[0]).to_pydatetime()
    known = forecast_input(
        control,
        begin,
        shown_history(len(result.band.ts) * record.step),
        step=record.step,
        metrics=[result.key.metric],
        timezone=ZoneInfo(settings.clock.timezone),
    )
    return ForecastPicture(
        result,
        history_of(known.panel, result),
        record.step,
        capacity_of(control, result.key),
        settings.clock.timezone,
        settings.decision.predicted_quantile,
    )
