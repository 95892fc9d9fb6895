"""Prometheus as a source of load: what it says of a shard, as samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from foreshard.clock import FleetClock
from foreshard.errors import ConfigurationError, InvalidInput
from foreshard.load.prometheus import PrometheusClient, PrometheusSeries, QueryRefused
from foreshard.load.prometheus_queries import Target, Window
from foreshard.load.sample import Sample

STEP_S = 60
SETTLE = timedelta(seconds=10)
"""A scrape is seen some time after it began."""
LATE = timedelta(minutes=2)
"""Live samples of this time before the last collection are asked for again: some of it was not there yet."""
_STEPS_AT_ONCE = 1440
_LONGEST = timedelta(days=7)
_PROBE = timedelta(hours=1)
_METRIC = "foreshard_metric"


@dataclass(frozen=True)
class Part:
    """The samples of one shard in ``(since, until]``, fleet time. A step without a sample is a gap."""

    since: datetime
    until: datetime
    samples: list[Sample]


def live_samples(
    client: PrometheusClient,
    target: Target,
    since: datetime,
    until: datetime,
    clock: FleetClock = FleetClock(),  # noqa: B008 - frozen
) -> list[Sample]:
    """What is known of the minutes since the last collection, at ``since``, until now, ``until`` (fleet time).

    Minutes that were told before are told again; stored twice they do no harm. Errors as those of the client.
    """
    return [
        sample
        for part in history(client, target, since - LATE, until - SETTLE, None, clock)
        for sample in part.samples
    ]


def history(
    client: PrometheusClient,
    target: Target,
    since: datetime,
    until: datetime,
    step_s: int | None = None,
    clock: FleetClock = FleetClock(),  # noqa: B008 - frozen
) -> Iterator[Part]:
    """All samples of one shard in ``(since, until]`` (fleet time), oldest first, in bounded parts.

    A sample's ``ts`` is a multiple of the step since 1970 (real time) and the end of the step that it is the mean of.
    ``step_s``: None is a minute, or, where targets are scraped too seldom, as many as two scrapes take.

    Raises:
        InvalidInput: the step is shorter than two scrapes.
        ConfigurationError: labels select several targets, or a query of the user's gives what is no load.
        SourceUnavailable: as the client.
    """
    span = min(timedelta(seconds=_STEPS_AT_ONCE * (step_s or STEP_S)), _LONGEST)
    while since < until:
        end = min(since + span, until)
        real = since - clock.offset, end - clock.offset
        samples = [*_exporters(client, target, *real, step_s), *_own(client, target, *real, step_s or STEP_S)]
        if clock.offset:
            samples = [
                Sample(clock.from_real(one.ts), one.shard, None, one.metric, one.value) for one in samples
            ]
        yield Part(since, end, samples)
        since = end


def scrape_interval_s(
    client: PrometheusClient, selector: str, since: datetime, until: datetime
) -> float | None:
    """How often the target was scraped, up or not, toward the end of that time; None if Prometheus did not try.

    Raises ConfigurationError if several targets answer to the selector: their sum would be no shard's load.
    """
    for span in (min(_PROBE, until - since), until - since):
        length = max(1, math.floor(span.total_seconds()))
        tries = client.query(f"up{{{selector}}}[{length}s]", until)
        _refuse_several(selector, tries)
        times = max((series.values for series in tries), key=len, default=[])
        if len(times) >= 3:
            return median(late - early for (early, _), (late, _) in pairwise(times))
    return None


def _exporters(
    client: PrometheusClient, target: Target, since: datetime, until: datetime, step_s: int | None
) -> Iterator[Sample]:
    for kind, selector in target.selectors.items():
        # Also from before: in a short time there are too few scrapes to tell how often they are.
        interval_s = scrape_interval_s(client, selector, min(since, until - _PROBE), until)
        if interval_s is None:
            continue
        fitting = STEP_S * max(1, math.ceil(2 * interval_s / STEP_S - 0.01))
        window = Window.of(step_s or fitting, interval_s)
        if window is None:
            raise InvalidInput(
                "--step",
                f"{step_s} s is less than two scrapes of {target.shard}'s {kind} target (every {interval_s:.0f} s)",
                remedy=f"Take {fitting}s or more.",
            )
        steps = _grid(since, until, window.step_s)
        queries = target.promql(kind, window)
        if steps is None or not queries:
            continue
        # All metrics in one request, told apart by a label.
        promql = " or ".join(
            f'label_replace({query}, "{_METRIC}", "{metric}", "", "")' for metric, query in queries.items()
        )
        for series in client.query_range(promql, *steps, window.step_s):
            metric = series.metric[_METRIC]
            yield from _samples(target.shard, metric, series, queries[metric])


def _own(
    client: PrometheusClient, target: Target, since: datetime, until: datetime, step_s: int
) -> Iterator[Sample]:
    steps = _grid(since, until, step_s)
    for metric, promql in target.own_promql(step_s).items() if steps is not None else ():
        field = _field(target.shard, metric)
        assert steps is not None
        try:
            found = client.query_range(promql, *steps, step_s)
        except QueryRefused as refused:
            raise ConfigurationError(field, refused.message, remedy="Mend that query.") from None
        if len(found) > 1:
            raise ConfigurationError(
                field, f"gives {len(found)} series", remedy="A shard has one: add them up by sum(...)."
            )
        for series in found:
            yield from _samples(target.shard, metric, series, promql)


def _samples(shard: str, metric: str, series: PrometheusSeries, promql: str) -> Iterator[Sample]:
    for ts, value in series.points():
        if value < 0:
            raise ConfigurationError(
                _field(shard, metric),
                f"a load is not negative, and this gives {value:g} at {ts:%Y-%m-%d %H:%M:%S} UTC",
                remedy=promql,
            )
        yield Sample(ts, shard, None, metric, value)


def _field(shard: str, metric: str) -> str:
    return f"load.prometheus.shards.{shard}.queries.{metric}"


def _grid(since: datetime, until: datetime, step_s: int) -> tuple[datetime, datetime] | None:
    """The first and the last multiple of the step in ``(since, until]``."""
    first = (math.floor(since.timestamp() / step_s) + 1) * step_s
    last = math.floor(until.timestamp() / step_s) * step_s
    if last < first:
        return None
    zone = since.tzinfo
    return datetime.fromtimestamp(first, zone), datetime.fromtimestamp(last, zone)


def _refuse_several(selector: str, tries: list[PrometheusSeries]) -> None:
    """Labels may change in the course of time; at one time they may select one target only."""
    spans = sorted((one.values[0][0], one.values[-1][0]) for one in tries if one.values)
    if any(following[0] < before[1] for before, following in pairwise(spans)):
        jobs = sorted({series.metric.get("job", "?") for series in tries})
        raise ConfigurationError(
            "load.prometheus.shards",
            f"up{{{selector}}} is several targets (jobs {', '.join(jobs)})",
            remedy='Give all labels that tell which: { instance = "...", job = "..." }.',
        )
