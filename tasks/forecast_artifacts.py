"""Forecasts in the UI: a table of all shards, and a picture and a table for each that comes near its capacity."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import ACTIVITY
from foreshard.control.forecast_picture import history_of, read_picture
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.forecast.band import QUANTILES
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture, forecast_png
from foreshard.markdown import cell
from foreshard.quantities import chance
from foreshard.settings import Settings
from tasks.artifact_keys import artifact_key
from tasks.forecasting import Forecasts
from tasks.plots import as_markdown

AT_RISK = 0.9
"""A shard is drawn when the policy's quantile peaks above this share of its capacity,"""

LIKELY = 0.05
"""or when it is exceeded with this probability."""


@task(name="show forecast", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show(
    control: ControlDatabase,
    settings: Settings,
    record: ForecastRecord,
    forecasts: Forecasts,
) -> None:
    """Artifacts with a stable key per shard, so that the UI keeps their history."""
    of_shards = {one.key: one for one in forecasts.results if one.key.shard is not None}
    panel = forecasts.known.panel
    level = settings.decision.predicted_quantile
    lines = [
        f"# Forecast {record.id}",
        f"Issued at {record.issued_at:%Y-%m-%d %H:%M} UTC (fleet clock), {record.horizon_hours:g} hours ahead in steps "
        f"of {record.step.total_seconds() / 60:g} minutes, {record.series} series in {record.seconds:.0f} s, "
        f"{record.live_samples_used} live samples used.",
        "",
        *(f"- **{note}**" for note in record.notes),
        "",
        f"| shard | metric | peak (q{level:g}) | capacity | of capacity | above from | P(exceed) | model | score |",
        "|---|---|---:|---:|---:|---|---:|---|---:|",
    ]
    for shard in TopologyStore(control).shards():
        for metric, capacity in sorted(shard.load_capacity.items()):
            result = of_shards.get(SeriesKey(shard.name, None, metric))
            if result is None:  # others were asked for
                continue
            peak, above = result.band.peak(level), result.band.first_above(capacity, level)
            risk = result.peak.above(capacity)
            lines.append(
                f"| {cell(shard.name)} | {metric} | {peak:,.4g} | {capacity:,.4g} | {peak / capacity:.0%} | "
                f"{f'**{above:%a %H:%M} UTC**' if above else 'never'} | {chance(risk)} | {result.model} | "
                f"{score(result)} |"
            )
            if peak > AT_RISK * capacity or risk > LIKELY:
                history, zone = history_of(panel, result), settings.clock.timezone
                drawn = ForecastPicture(result, history, record.step, capacity, zone, level)
                create_markdown_artifact(
                    key=artifact_key("forecast", shard.name, metric),
                    markdown=_shard_markdown(drawn),
                    description=f"{shard.name}: forecast of {metric}",
                )
    create_markdown_artifact(key="forecast", markdown="\n".join(lines), description=f"Forecast {record.id}")


def picture(
    control: ControlDatabase,
    settings: Settings,
    record: ForecastRecord,
    shard: ShardRecord,
    metric: str = ACTIVITY,
) -> str:
    """The shard's rebuilt history and the forecast of ``record``, as a markdown image; words if it is kept no more."""
    key = SeriesKey(shard.name, None, metric)
    result = ForecastStore(control).result(record.id, key)
    if result is None:
        return f"*The bands of forecast {record.id} are no longer kept.*"
    return _image(read_picture(control, settings, record, result))


def score(result: ForecastResult) -> str:
    """Its champion's, to two digits."""
    return "none" if result.score is None else f"{result.score:.2f}"


def _image(drawn: ForecastPicture) -> str:
    excess = drawn.excess_at
    crosses = f"crosses its capacity at {excess:%Y-%m-%d %H:%M} UTC" if excess else "stays below its capacity"
    return as_markdown(forecast_png(drawn), f"{cell(drawn.name)}: the forecast {crosses}")


def _shard_markdown(drawn: ForecastPicture) -> str:
    """The picture and, below it, the quantiles."""
    result = drawn.result
    rows = [
        f"| {step:%a %H:%M} | " + " | ".join(f"{value:,.4g}" for value in values) + " |"
        for step, values in zip(result.band.ts, result.band.quantiles, strict=True)
    ]
    covered = "" if result.coverage is None else f", its 90 % band held {result.coverage:.0%} of past values"
    risk = (
        "" if drawn.risk is None else f"The capacity is exceeded with a probability of {chance(drawn.risk)}. "
    )
    return "\n".join(
        [
            _image(drawn),
            "",
            f"{risk}Learnt from {result.points} steps by {result.model}, score {score(result)} (seasonal naive is 1)"
            f"{covered}. {result.note}",
            "",
            "| UTC | " + " | ".join(f"q{level:g}" for level in QUANTILES) + " |",
            "|---|" + "---:|" * len(QUANTILES),
            *rows,
        ]
    )
