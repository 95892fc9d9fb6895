"""Forecasts in the UI: a table of all shards, and a picture and a table for each that comes near its capacity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_picture import history_of
from foreshard.control.forecast_store import ForecastRecord
from foreshard.control.plan_store import PlanStore
from foreshard.control.topology_store import TopologyStore
from foreshard.forecast.band import QUANTILES
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture, forecast_png
from foreshard.load.shown_series import with_unit
from foreshard.markdown import plain, shortened
from foreshard.planning.explain import percent
from foreshard.quantities import chance, resource
from foreshard.settings import Settings
from tasks import fleet_time, links
from tasks.artifact_keys import artifact_key
from tasks.forecasting import Forecasts
from tasks.plots import as_markdown
from tasks.risk_markdown import more

AT_RISK = 0.9
"""A shard is drawn when the policy's quantile peaks above this share of its capacity,"""

LIKELY = 0.05
"""or when it is exceeded with this probability."""

COLUMNS = (0, 2, 3, 5, 6)
"""Quantiles of the table: all of them are too wide for one of the two UIs."""

STEPS_SHOWN = 96


SHOWN = 100
"""Rows of the table, the most loaded first."""

DRAWN = 50
"""Shards and resources with a picture of their own, the riskiest first."""


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
        said = _linked(record, one.shard, plans)
        create_markdown_artifact(
            key=one.key,
            markdown="\n\n".join([said, shard_markdown(picture)]),
            description=f"{one.shard}: {resource(one.metric)} peaks at {percent(one.share)} of capacity, P(exceed) "
            f"{chance(one.risk)}",
        )
    create_markdown_artifact(
        key="forecast",
        markdown=as_table(record, rows, drawn, settings.clock.timezone),
        description=f"Forecast {record.id} of {fleet_time.moment(record.issued_at, settings.clock.timezone)}: "
        f"{len({one.shard for one in drawn})} shard(s) at risk",
    )


@dataclass(frozen=True)
class ShardForecast:
    """One resource of one shard, and what is forecast of it by the quantile ``level``."""

    shard: str
    metric: str
    capacity: float
    result: ForecastResult
    level: float

    @property
    def share(self) -> float:
        """The peak as a share of the capacity."""
        return self.result.band.peak(self.level) / self.capacity

    @property
    def risk(self) -> float:
        """Probability that the capacity is exceeded."""
        return self.result.peak.above(self.capacity)

    @property
    def above_from(self) -> datetime | None:
        """When the quantile first passes the capacity."""
        return self.result.band.first_above(self.capacity, self.level)

    @property
    def at_risk(self) -> bool:
        """Whether it has a picture."""
        return self.share > AT_RISK or self.risk > LIKELY

    @property
    def key(self) -> str:
        """Of its picture."""
        return artifact_key("forecast", self.shard, self.metric)


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


def _linked(record: ForecastRecord, shard: str, plans: Mapping[str, Sequence[int]]) -> str:
    return links.line(
        links.to_fleet(),
        links.to_artifact("forecast", f"Forecast {record.id}"),
        links.to_artifact("decision", "What is decided on it"),
        *(links.to_artifact(f"plan-{one}", f"Plan {one}") for one in plans.get(shard, ())),
    )


def score(result: ForecastResult) -> str:
    """Its champion's, to two digits."""
    return "none" if result.score is None else f"{result.score:.2f}"


def _image(drawn: ForecastPicture) -> str:
    return as_markdown(forecast_png(drawn), f"{drawn.name}: the forecast {_crossing(drawn)}")


def _crossing(drawn: ForecastPicture) -> str:
    excess = drawn.excess_at
    if excess is None:
        return "stays below its capacity"
    return f"passes its capacity on {fleet_time.moment(excess, drawn.timezone)}"


def shard_markdown(drawn: ForecastPicture) -> str:
    """The picture and, below it, the quantiles."""
    result, unit = drawn.result, drawn.capacity or 1.0
    rows = [
        f"| {fleet_time.hour(step, drawn.timezone)} | "
        + " | ".join(percent(value / unit) for value in values)
        + " |"
        for step, values in zip(result.band.ts, result.band.quantiles[:, COLUMNS], strict=True)
    ][:STEPS_SHOWN]
    covered = "" if result.coverage is None else f", its 90 % band held {result.coverage:.0%} of past values"
    risk = (
        "" if drawn.risk is None else f"The capacity is exceeded with a probability of {chance(drawn.risk)}. "
    )
    return "\n".join(
        [
            f"# {plain(drawn.name[:1].upper() + drawn.name[1:])}",
            "",
            f"The {drawn.level * 100:g} % quantile {_crossing(drawn)}. {risk}",
            "",
            _image(drawn),
            "",
            f"Learnt from {result.points:,} steps by {result.model.replace('_', ' ')}, score {score(result)} (below 1 "
            f"is better than yesterday repeated){covered}. {plain(result.note)}",
            "",
            f"## Quantiles of each step, of the capacity {_capacity(drawn)}",
            "",
            f"| {drawn.timezone} | " + " | ".join(f"{QUANTILES[at] * 100:g} %" for at in COLUMNS) + " |",
            "|---|" + "---:|" * len(COLUMNS),
            *rows,
            *more(len(result.band.ts) - STEPS_SHOWN, "steps: `foreshard forecast --series` lists all"),
        ]
    )


def _capacity(drawn: ForecastPicture) -> str:
    return with_unit(drawn.capacity or 0.0, drawn.result.key.metric)
