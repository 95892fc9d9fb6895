"""A shard's forecast in the UI, a page for each resource that comes near its capacity: picture, risk, quantiles.

`forecast` writes it; `decide` again with what its plans make of it, dotted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_picture import capacity_of, read_picture
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.plan_picture import relieved
from foreshard.control.plan_store import DecisionRecord, PlanStore
from foreshard.errors import NotFound
from foreshard.forecast.band import QUANTILES
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture, forecast_png
from foreshard.load.shown_series import with_unit
from foreshard.markdown import plain
from foreshard.planning.explain import percent
from foreshard.quantities import chance, resource
from foreshard.settings import Settings
from tasks import fleet_time, links
from tasks.artifact_keys import artifact_key
from tasks.plots import as_markdown
from tasks.risk_markdown import more

AT_RISK = 0.9
"""A shard is drawn when the policy's quantile peaks above this share of its capacity,"""

LIKELY = 0.05
"""or when it is exceeded with this probability."""

COLUMNS = (0, 2, 3, 5, 6)
"""Quantiles of the table: all of them are too wide for one of the two UIs."""

STEPS_SHOWN = 96

COUNTED = ("proposed", "migrating", "done")
"""States of plans that take their load away; one that was rejected, aborted or reversed leaves it where it is."""

DRAWN = 50
"""Shards and resources with a page of their own, the riskiest first."""


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


@task(
    name="show relief",
    task_run_name="show relief",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
)
def show_relief(control: ControlDatabase, settings: Settings, decided: DecisionRecord) -> None:
    """The pages of the shards that a decision's plans relieve, again: with the plans' effect, and links to them."""
    record = ForecastStore(control).get(decided.forecast_run_id)
    plans = [PlanStore(control).get(plan_id) for plan_id in decided.plan_ids]
    counted = [one for one in plans if one.state in COUNTED]
    ends = dict.fromkeys(
        (one.plan.source, effect.metric)
        for one in plans
        for effect in one.plan.effects
        if effect.shard == one.plan.source
    )
    pages = 0
    for shard, metric in ends:
        if pages == DRAWN:
            break
        key = SeriesKey(shard, None, metric)
        result, capacity = ForecastStore(control).result(record.id, key), capacity_of(control, key)
        if result is None or not capacity:
            continue
        one = ShardForecast(shard, metric, capacity, result, settings.decision.predicted_quantile)
        if not one.at_risk:
            continue
        try:
            picture = read_picture(control, settings, record, result)
        except NotFound:  # the load that it was made on is no longer kept
            continue
        picture = relieved(picture, counted)
        publish(one, picture, record.id, picture.relieved.plans if picture.relieved else ())
        pages += 1


def publish(one: ShardForecast, picture: ForecastPicture, forecast: int, plans: Sequence[int]) -> None:
    """Write the page. ``forecast`` and ``plans``: their numbers, to link to."""
    create_markdown_artifact(
        key=one.key,
        markdown="\n\n".join([_linked(forecast, plans), shard_markdown(picture)]),
        description=f"{one.shard}: {resource(one.metric)} peaks at {percent(one.share)} of capacity, P(exceed) "
        f"{chance(one.risk)}",
    )


def _linked(forecast: int, plans: Sequence[int]) -> str:
    return links.line(
        links.to_fleet(),
        links.to_artifact("forecast", f"Forecast {forecast}"),
        links.to_artifact("decision", "What is decided on it"),
        *(links.to_artifact(f"plan-{one}", f"Plan {one}") for one in plans),
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
            f"The {drawn.level * 100:g} % quantile {_crossing(drawn)}. {risk}{_relief(drawn)}",
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


def _relief(drawn: ForecastPicture) -> str:
    """What the plans make of it: the dotted line of the picture, in words."""
    done = drawn.relieved
    if done is None:
        return ""
    unit, before = drawn.capacity or 1.0, drawn.result.band.peak(drawn.level)
    return (
        f"With {done.name} done, by {fleet_time.moment(done.done_at, drawn.timezone)}, the peak goes from "
        f"{percent(before / unit)} to {percent(float(done.values.max()) / unit)}: the dotted line."
    )


def _capacity(drawn: ForecastPicture) -> str:
    return with_unit(drawn.capacity or 0.0, drawn.result.key.metric)
