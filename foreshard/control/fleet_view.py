"""The fleet's present and its forecast, put together for the planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from zoneinfo import ZoneInfo

import numpy as np

from foreshard.control.bucket_work import bucket_work
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_arrays import ForecastArrays, forecast_arrays
from foreshard.control.forecast_store import ForecastRecord
from foreshard.control.latency_input import latency_curve
from foreshard.control.load_sql import transaction
from foreshard.control.load_store import LoadStore
from foreshard.control.rate_store import RateStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.control.under_way import came_from, under_way
from foreshard.errors import NotFound
from foreshard.forecast.band import quantile_column
from foreshard.load.metric import ACTIVITY
from foreshard.planning.view import NEVER, BucketsView, FleetView, Floats, Indexes, ShardsView
from foreshard.settings import Settings

NO_FORECAST = "has no forecast"


def fleet_view(control: ControlDatabase, settings: Settings, run: ForecastRecord) -> FleetView:
    """The fleet now and as forecast by ``run``. What was not measured lately stands at its forecast's start.

    Resources are those that every shard has a capacity of. A bucket's part of one that is not measured of buckets is
    its forecast queries times what its queries commonly took of it; where that is not known, its share of the shard's
    queries. ``unknown`` names what has no forecast, and resources that are left out: shards with their buckets are
    not in the view at all, buckets have no load.

    Raises:
        NotFound: no shard has a forecast in that run.
    """
    clock = settings.clock.fleet_clock()
    now = clock.now()
    known = TopologyStore(control).shards()
    arrays = forecast_arrays(control, run.id, ACTIVITY)
    unknown: dict[str, str] = {}
    metrics = [] if arrays is None else _metrics(known, arrays, unknown)
    placed = _buckets(control)
    shards = [] if arrays is None else _with_forecast(known, metrics, arrays, placed, unknown)
    if arrays is None or not shards:
        raise NotFound(
            f"Forecast {run.id} is of no shard of the fleet.", remedy="Run collect, then forecast."
        )
    row = {shard.name: at for at, shard in enumerate(shards)}
    placed = [one for one in placed if one[1] in row]
    names = tuple(name for name, _, _ in placed)
    lies = np.array([row[shard] for _, shard, _ in placed], np.intp)
    queries = _queries(names, arrays, unknown)
    bands = np.array([[arrays.bands[shard.name, metric] for metric in metrics] for shard in shards])
    zone = ZoneInfo(settings.clock.timezone)
    history = timedelta(days=settings.forecast.history_days)
    work = bucket_work(control, now, names, metrics, history, zone)
    load = _load(queries, [work.per_query.get(metric) for metric in metrics], lies, bands)
    sizes, left = LoadStore(control).sizes(), came_from(control)
    going = under_way(control, clock, now)
    return FleetView(
        now,
        arrays.starts_at,
        run.step,
        tuple(metrics),
        ShardsView(
            tuple(row),
            np.array([[shard.load_capacity[metric] for metric in metrics] for shard in shards]),
            _current(control, now, tuple(row), metrics, bands),
            bands,
            np.array([[arrays.peaks[shard.name, metric] for metric in metrics] for shard in shards]),
        ),
        BucketsView(
            names,
            lies,
            np.array([sizes.get(name, 0) for name in names], np.int64),
            load,
            queries,
            np.array(
                [
                    NEVER if moved is None else max(0.0, (now - clock.from_real(moved)).total_seconds())
                    for _, _, moved in placed
                ],
                float,
            ),
            np.array([row.get(left.get(name, ""), -1) for name in names], np.intp),
            np.array(
                [arrays.spreads[arrays.buckets[name]] if name in arrays.buckets else 0.0 for name in names]
            ),
        ),
        moving=going.moving,
        busy=going.busy,
        draining=frozenset(shard.name for shard in shards if shard.draining),
        unknown=unknown,
        rates=RateStore(control).learnt(),
        latency=latency_curve(control, now),
        blackouts=CalendarStore(control).blackouts(now, arrays.starts_at + len(bands[0, 0]) * run.step),
        timezone=zone,
    )


def _metrics(known: Sequence[ShardRecord], arrays: ForecastArrays, unknown: dict[str, str]) -> list[str]:
    """Those that all shards with any capacity have one of, and that some shard is forecast in."""
    limited = [shard for shard in known if shard.load_capacity]
    forecast = {metric for _, metric in arrays.bands}
    found = []
    for metric in sorted({metric for shard in limited for metric in shard.load_capacity}):
        without = [shard.name for shard in limited if metric not in shard.load_capacity]
        if without:
            unknown[metric] = f"{_some(without)} has no capacity of it"
        elif metric not in forecast:
            unknown[metric] = "no shard has a forecast of it"
        else:
            found.append(metric)
    return found


def _with_forecast(
    known: Sequence[ShardRecord],
    metrics: Sequence[str],
    arrays: ForecastArrays,
    placed: Sequence[tuple[str, str, datetime | None]],
    unknown: dict[str, str],
) -> list[ShardRecord]:
    """The shards that can be planned with, by name."""
    found = []
    for shard in sorted(known, key=lambda one: one.name):
        missing = [metric for metric in metrics if (shard.name, metric) not in arrays.bands]
        if metrics and shard.load_capacity and not missing:
            found.append(shard)
            continue
        many = sum(1 for _, lies, _ in placed if lies == shard.name)
        why = (
            f"{NO_FORECAST} of {', '.join(missing)}" if shard.load_capacity else "has no capacity of any load"
        )
        unknown[shard.name] = f"{why}; its {many} bucket{'' if many == 1 else 's'} stay"
    return found


def _buckets(control: ControlDatabase) -> list[tuple[str, str, datetime | None]]:
    """Name, shard and last move of every bucket, by name."""
    with transaction(control) as conn:
        rows = conn.execute("SELECT name, shard, last_moved_at FROM buckets").fetchall()
    return sorted(rows, key=itemgetter(0))  # as Python sorts: the database's collation may be another


def _queries(names: Sequence[str], arrays: ForecastArrays, unknown: dict[str, str]) -> Floats:
    """Forecast medians, shape (B, T); 0 where there is none."""
    at = np.array([arrays.buckets.get(name, -1) for name in names], np.intp)
    missing = np.flatnonzero(at < 0)
    unknown |= dict.fromkeys((names[row] for row in missing.tolist()), NO_FORECAST)
    nothing = np.zeros((1, arrays.medians.shape[1]), np.float32)
    found: Floats = np.concatenate([arrays.medians, nothing])[at]
    return found


def _load(queries: Floats, per_query: Sequence[Floats | None], lies: Indexes, bands: Floats) -> Floats:
    """Shape (B, R, T). ``per_query``: by resource; None, or NaN for a bucket: its share of the shard's queries."""
    load = np.empty((len(lies), bands.shape[1], bands.shape[2]), np.float32)
    for at, per in enumerate(per_query):
        known = np.full(len(lies), np.nan) if per is None else per
        load[:, at] = queries * np.nan_to_num(known)[:, None]
        rest = np.flatnonzero(np.isnan(known))
        if len(rest):
            total = np.zeros((bands.shape[0], bands.shape[2]))
            np.add.at(total, lies, queries)
            median = bands[:, at, :, quantile_column(0.5)]
            common = np.divide(median, total, out=np.zeros_like(total), where=total > 0)
            load[rest, at] = queries[rest] * common[lies[rest]]
    return load


def _current(
    control: ControlDatabase, now: datetime, names: Sequence[str], metrics: Sequence[str], bands: Floats
) -> Floats:
    present: Mapping[str, Mapping[str, float]] = LoadStore(control).present(now).shards
    current = np.array(bands[:, :, 0, quantile_column(0.5)], float)
    for row, name in enumerate(names):
        for at, metric in enumerate(metrics):
            current[row, at] = present.get(name, {}).get(metric, current[row, at])
    return current


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
