"""The fleet's load, collected."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_keeper import Kept, LoadKeeper
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import TopologyStore
from foreshard.load.collection import Collection, collect_fleet
from foreshard.load.instant import CollectorClock
from foreshard.load.keeping_settings import LoadKeeping
from foreshard.load.source import LoadSource


@task(name="collect fleet", cache_policy=NO_CACHE, timeout_seconds=75)
def collect_shards(
    control: ControlDatabase, sources: Sequence[LoadSource], clock: CollectorClock
) -> Collection:
    """Visits all shards in one task: as a task each, a thousand would take 40 s of Prefect's own.

    A shard that does not answer is one warning and a gap in its series: the others are collected all the same.
    """
    topology = TopologyStore(control)
    logger = get_run_logger()

    def warn(shard: str, reason: str) -> None:
        logger.warning("%s is not collected, or not all of it: %s", shard, reason)

    collection = collect_fleet(
        topology.shards(),
        topology.routing_map().served_by,
        LoadStore(control),
        sources,
        clock.now,
        warn=warn,
    )
    logger.info("%s", collection.summary())
    return collection


@task(name="keep load", cache_policy=NO_CACHE, timeout_seconds=600)
def keep_load(control: ControlDatabase, keeping: LoadKeeping, clock: CollectorClock) -> Kept:
    """Rolls up what is over and drops what is old. If another collection is at it, that one does it."""
    kept = LoadKeeper(control, keeping).keep(clock.fleet.now(), clock.fleet.offset)
    if kept.dropped:
        get_run_logger().info("Dropped what is past its time: %s", ", ".join(kept.dropped))
    return kept
