"""What the forecast learns from, from the store to its panel: a part of `bench_load`.

A fleet of 100 shards x 100 buckets, 42 days of hourly means of three kinds of activity and three metrics of shards that
are apportioned by them (made up in the database: curves of a day with noise), on one thread:

input_s            reading, apportioning three metrics on every shard, and rebuilding every shard under the present
                   placement: `forecast_input`; input_cpu_s: processor time of it
read_s             of it, reading the grid
plan_s             one hypothetical placement, every shard and metric asked for: two shards are summed anew
rss_mb             memory of this process at its most
"""

from __future__ import annotations

import random
import resource
import time
from contextlib import closing
from datetime import timedelta

from benchmarks.load_storing import HOUR, MINUTE, OF_SHARDS, SERVER, START, Size, shard_samples, timed
from foreshard.control import load_partitions
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import forecast_input
from foreshard.control.load_grid import load_grid
from foreshard.control.load_keeper import LoadKeeper
from foreshard.control.load_levels import HOURS
from foreshard.control.load_sql import transaction
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.load.metric import ACTIVITIES, ACTIVITY
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

FILL = """
INSERT INTO load_hours (metric, ts, shard, live, amounts)
SELECT h.metric, ts.ts, h.shard, h.live, (
    SELECT array_agg((amount * (1 + 0.5 * sin(extract(epoch FROM ts.ts) / 13751 + h.shard))
                             * (0.8 + 0.4 * random()))::real)
    FROM unnest(h.amounts) AS amount
)
FROM generate_series(%(since)s::timestamptz, %(until)s - interval '1 hour', interval '1 hour') AS ts (ts)
CROSS JOIN load_hours AS h JOIN load_metrics AS m ON m.id = h.metric
WHERE m.name = ANY (%(metrics)s) AND h.ts = %(until)s ORDER BY ts.ts, h.shard
"""
FULL, QUICK = Size(100, 100, 1), Size(10, 20, 1)
TRIES = 20


def rebuilding(days: int = 42, *, quick: bool = False) -> dict[str, object]:
    """Means of ``days`` are learnt from."""
    size, days = (QUICK, 3) if quick else (FULL, days)
    with (
        ThrowawayServers(SERVER) as servers,
        closing(ControlDatabase(servers.new_control_database())) as control,
    ):
        control.migrate()
        found = _measure(control, size, _filled(control, size, days), timedelta(days=days))
    return {"buckets": size.shards * size.buckets, "days": days} | {
        name: round(value, 3) for name, value in found.items()
    }


def _filled(control: ControlDatabase, size: Size, days: int) -> Placement:
    topology, store = TopologyStore(control), LoadStore(control)
    dice = random.Random(1)
    capacity = dict.fromkeys((ACTIVITY, *OF_SHARDS), 1e6)
    of: dict[str, str] = {}
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for number in range(size.shards):
        samples = shard_samples(dice, size, number, START + MINUTE)
        shard = samples[0].shard
        topology.put_shard(ShardRecord(shard, f"dbname={shard}", f"dbname={shard}", capacity))
        of |= {one.bucket: shard for one in samples if one.bucket is not None}
        store.add(samples, "live")
    placement = Placement(of)
    topology.put_buckets(of, placement)
    LoadKeeper(control).roll_up()
    times = [START - timedelta(days=day) for day in range(days + 1)]
    given = {"metrics": [*ACTIVITIES, *OF_SHARDS], "since": times[-1], "until": START}
    with transaction(control) as conn:
        load_partitions.make(conn, load_partitions.needed(HOURS, times))
        conn.execute(FILL, given)
    with closing(control.connect()) as conn:
        conn.autocommit = True
        conn.execute(b"VACUUM (ANALYZE) load_hours")
    return placement


def _measure(
    control: ControlDatabase, size: Size, placement: Placement, history: timedelta
) -> dict[str, float]:
    now, until = START + HOUR - MINUTE, START + HOUR
    read_s, grid = timed(lambda: load_grid(control, ACTIVITIES, OF_SHARDS, until - history, until, HOUR))
    assert grid.windows == history // HOUR
    del grid
    before = time.process_time()
    input_s, found = timed(lambda: forecast_input(control, now, history))
    figures = {"input_s": input_s, "input_cpu_s": time.process_time() - before, "read_s": read_s}
    assert len(found.panel.keys) == size.shards * (size.buckets + 1 + len(OF_SHARDS))
    assert found.panel.steps == history // HOUR
    shards = sorted(set(placement.of.values()))
    moves = [placement.moved([bucket], shards[-1]) for bucket in sorted(placement.of)[:TRIES]]
    load = found.load
    plans_s, _ = timed(lambda: [load.shard_panel(one, shards, load.metrics) for one in moves])
    figures["plan_s"] = plans_s / TRIES
    return figures | {"rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
