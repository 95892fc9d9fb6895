"""Forecasts in the UI: a table of all shards, and a picture and a table for each that comes near its capacity."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.fleet_view import ACTIVITY, forecast_input
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.forecast.band import QUANTILES
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.settings import Settings
from tasks.plots import ForecastPicture, as_markdown, forecast_png

AT_RISK = 0.9
"""A shard is drawn when the policy's quantile peaks above this share of its capacity."""

SHOWN_HISTORY = timedelta(days=4)


@task(name="show forecast", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show(control: ControlDatabase, settings: Settings, record: ForecastRecord) -> None:
    """Artifacts with a stable key per shard, so that the UI keeps their history."""
    results = ForecastStore(control).results(record.id)
    shards = TopologyStore(control).shards()
    level = settings.decision.predicted_quantile
    lines = [
        f"# Forecast {record.id}",
        f"Issued at {record.issued_at:%Y-%m-%d %H:%M} UTC (fleet clock), {record.horizon_hours:g} hours ahead, "
        f"{record.series} series in {record.seconds:.0f} s, {record.live_samples_used} live samples used.",
        "",
        f"| shard | metric | peak (q{level:g}) | capacity | of capacity | above from | model | score |",
        "|---|---|---:|---:|---:|---|---|---:|",
    ]
    for shard in shards:
        for metric, capacity in sorted(shard.load_capacity.items()):
            result = results[SeriesKey(shard.name, None, metric)]
            peak, above = result.band.peak(level), result.band.first_above(capacity, level)
            lines.append(
                f"| {shard.name} | {metric} | {peak:,.4g} | {capacity:,.4g} | {peak / capacity:.0%} | "
                f"{f'**{above:%a %H:%M} UTC**' if above else 'never'} | {result.model} | {_score(result)} |"
            )
            if peak > AT_RISK * capacity:
                create_markdown_artifact(
                    key=f"forecast-{shard.name}-{metric}".replace("_", "-").lower(),
                    markdown=shard_markdown(control, settings, record, shard, metric),
                    description=f"{shard.name}: forecast of {metric}",
                )
    create_markdown_artifact(key="forecast", markdown="\n".join(lines), description=f"Forecast {record.id}")


def shard_markdown(
    control: ControlDatabase, settings: Settings, record: ForecastRecord, shard: ShardRecord, metric: str
) -> str:
    """The picture of one shard's metric and, below it, its quantiles."""
    result = ForecastStore(control).results(record.id)[SeriesKey(shard.name, None, metric)]
    rows = [
        f"| {step:%a %H:%M} | " + " | ".join(f"{value:,.4g}" for value in values) + " |"
        for step, values in zip(result.band.ts, result.band.quantiles, strict=True)
    ]
    return "\n".join(
        [
            picture(control, settings, record, shard, metric),
            "",
            f"Learnt from {result.points} hours by {result.model}, score {_score(result)} (seasonal naive is 1). "
            f"{result.note}",
            "",
            "| UTC | " + " | ".join(f"q{level:g}" for level in QUANTILES) + " |",
            "|---|" + "---:|" * len(QUANTILES),
            *rows,
        ]
    )


def picture(
    control: ControlDatabase,
    settings: Settings,
    record: ForecastRecord,
    shard: ShardRecord,
    metric: str = ACTIVITY,
) -> str:
    """The shard's rebuilt history and the forecast of ``record``, as a markdown image."""
    key = SeriesKey(shard.name, None, metric)
    band = ForecastStore(control).results(record.id)[key].band
    rebuilt = forecast_input(control, record.issued_at, SHOWN_HISTORY).series
    history = next((one.values for one in rebuilt if one.key == key), pd.Series(dtype=float))
    capacity = shard.capacity[metric]
    excess = band.first_above(capacity, settings.decision.predicted_quantile)
    words = f"{shard.name}: {metric.replace('_per_s', '/s').replace('_', ' ')}"
    png = forecast_png(
        ForecastPicture(
            title=words,
            unit=metric.replace("_per_s", "/s").replace("_", " "),
            history=history,
            times=[step.to_pydatetime() for step in band.ts],
            quantiles=band.quantiles,
            capacity=capacity,
            now=record.issued_at,
            timezone=settings.clock.timezone,
            excess_at=excess,
        )
    )
    crosses = f"crosses its capacity at {excess:%Y-%m-%d %H:%M} UTC" if excess else "stays below its capacity"
    return as_markdown(png, f"{words}: the forecast {crosses}")


def _score(result: ForecastResult) -> str:
    return "none" if result.score is None else f"{result.score:.2f}"
