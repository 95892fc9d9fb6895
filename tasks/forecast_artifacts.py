"""Forecasts in the UI: a table of all shards, and a page for each that comes near its capacity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_picture import history_of
from foreshard.control.forecast_store import ForecastRecord
from foreshard.control.plan_store import PlanStore
from foreshard.control.topology_store import TopologyStore
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture
from foreshard.markdown import plain, shortened
from foreshard.planning.explain import percent
from foreshard.quantities import chance, resource
from foreshard.settings import Settings
from tasks import fleet_time, links, shard_forecast_artifact
from tasks.forecasting import Forecasts
from tasks.risk_markdown import more
from tasks.shard_forecast_artifact import DRAWN, ShardForecast

SHOWN = 100
"""Rows of the table, the most loaded first."""


@task(
    name="show forecast",
    task_run_name="show forecast",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
)
def show(
    control: ControlDatabase,
    settings: Settings,
    record: ForecastRecord,
    forecasts: Forecasts,
) -> None:
    """Artifacts with a stable key per shard, so that the UI keeps their history."""
    rows = [
        ShardForecast(shard, metric, capacity, result, settings.decision.predicted_quantile)
        for shard, metric, capacity, result in _limited(control, forecasts)
    ]
    rows.sort(key=lambda one: (-one.risk, -one.share, one.shard, one.metric))
    drawn = [one for one in rows if one.at_risk][:DRAWN]
    plans = _plans_at(control)
    for one in drawn:
        history, zone = history_of(forecasts.known.panel, one.result), settings.clock.timezone
        picture = ForecastPicture(one.result, history, record.step, one.capacity, zone, one.level)
        shard_forecast_artifact.publish(one, picture, record.id, plans.get(one.shard, ()))
    create_markdown_artifact(
        key="forecast",
        markdown=as_table(record, rows, drawn, settings.clock.timezone),
        description=f"Forecast {record.id} of {fleet_time.moment(record.issued_at, settings.clock.timezone)}: "
        f"{len({one.shard for one in drawn})} shard(s) at risk",
    )


def _limited(
    control: ControlDatabase, forecasts: Forecasts
) -> Iterator[tuple[str, str, float, ForecastResult]]:
    """Every resource that a shard has a capacity of, where it was asked for."""
    of_shards = {one.key: one for one in forecasts.results if one.key.shard is not None}
    for shard in TopologyStore(control).shards():
        for metric, capacity in sorted(shard.load_capacity.items()):
            result = of_shards.get(SeriesKey(shard.name, None, metric))
            if result is not None:
                yield shard.name, metric, capacity, result


def as_table(
    record: ForecastRecord, rows: Sequence[ShardForecast], drawn: Sequence[ShardForecast], timezone: str
) -> str:
    """Which shard saturates, and when: the riskiest first. Narrow: one of the two UIs cuts off what is wide."""
    pictured = {one.key for one in drawn}
    lines = [
        f"# Forecast {record.id}",
        "",
        links.line(
            links.to_fleet(),
            links.to_artifact("decision", "What is decided on it"),
            links.to_artifact("forecast-series", "Models and scores"),
        ),
        "",
        f"Of {fleet_time.moment(record.issued_at, timezone)} (fleet clock), {record.horizon_hours:g} hours ahead in "
        f"steps of {record.step.total_seconds() / 60:g} minutes: {record.series} series in {record.seconds:.0f} s, "
        f"{record.live_samples_used:,} live samples used.",
        "",
        *(f"- **{plain(note)}**" for note in record.notes),
        "",
        "| shard | resource | peak | saturates | P(exceed) | model |",
        "|---|---|---:|---|---:|---|",
    ]
    for one in rows[:SHOWN]:
        above = one.above_from
        name = (
            links.to_artifact(one.key, shortened(one.shard))
            if one.key in pictured
            else plain(shortened(one.shard))
        )
        lines.append(
            f"| {name} | {resource(one.metric)} | {percent(one.share)} | "
            f"{f'**{fleet_time.hour(above, timezone)}**' if above else 'never'} | {chance(one.risk)} | "
            f"{one.result.model.replace('_', ' ')} |"
        )
    level = f"{rows[0].level * 100:g} % quantile" if rows else "quantile"
    return "\n".join(
        [
            *lines,
            *more(len(rows) - SHOWN, "with less load"),
            "",
            f"*Peak*: the largest value of the {level} of the forecast, as a share of the shard's *capacity*. "
            f"*Saturates*: when that first passes the capacity, by the clock of {timezone}. *P(exceed)*: the "
            "probability that load passes it at any moment of the forecast. A shard that comes near its capacity has a "
            "picture: follow its name.",
        ]
    )


def _plans_at(control: ControlDatabase) -> dict[str, list[int]]:
    """By source, the plans that wait or are under way: they were made on an earlier forecast."""
    found: dict[str, list[int]] = {}
    for record in PlanStore(control).open():
        found.setdefault(record.plan.source, []).append(record.id)
    return found
