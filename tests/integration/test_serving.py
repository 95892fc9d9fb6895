"""A copy that does not serve is closed to the application, and a bucket that has left says where it went."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from foreshard.control.topology_store import TopologyStore
from foreshard.fleet.grants import APPLICATION, SHADOW
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import schema_usage
from foreshard.router import Router, StaticMapSource
from foreshard.topology.routing_map import RoutingMap
from tests.integration.moving_fleet import MovingFleet, ignore

COUNT = "SELECT count(*) FROM {aircraft}"
CYCLE = "UPDATE {aircraft} SET cycles = cycles + 1 WHERE tailnum = %s RETURNING cycles"
CYCLES = "SELECT cycles FROM {aircraft} WHERE tailnum = %s"


def may_read(shard: ShardDatabase, role: str, bucket: str = "b0000") -> bool:
    with shard.connect(role) as conn:
        try:
            conn.execute(sql.SQL("SELECT 1 FROM {}").format(sql.Identifier(bucket, "aircraft")))
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def readers(fleet: MovingFleet) -> dict[str, bool]:
    return {
        f"{role} on {side}": may_read(getattr(fleet.pair, side), role)
        for role in (APPLICATION, SHADOW)
        for side in ("source", "target")
    }


def expected(*, source: bool, target: bool) -> dict[str, bool]:
    return {
        f"{APPLICATION} on source": source,
        f"{APPLICATION} on target": target,
        f"{SHADOW} on source": source,
        f"{SHADOW} on target": True,
    }


def without_redirections(known: RoutingMap) -> RoutingMap:
    return RoutingMap(known.epoch, known.key_type, known.buckets, known.placement)


@pytest.mark.slow
def test_only_the_side_that_serves_can_be_read(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.BACKFILL)
    assert readers(fleet) == expected(source=True, target=False)
    fleet.run_until(Stage.WRITE_REDIRECT)
    assert readers(fleet) == expected(source=True, target=False)
    fleet.run_until(Stage.CUTOVER)
    assert readers(fleet) == expected(source=True, target=True), "each serves some keys"
    fleet.run_until(Stage.SOAK)
    assert readers(fleet) == expected(source=False, target=True) | {f"{SHADOW} on source": False}
    with fleet.runner() as runner:
        runner.reverse(ignore)
    assert may_read(fleet.pair.source, APPLICATION)


def test_a_bucket_that_has_left_says_where_it_went(fleet: MovingFleet) -> None:
    start = fleet.starts()[0]
    old = without_redirections(TopologyStore(fleet.control).routing_map())
    shards = {shard.name: shard.application_dsn for shard in (fleet.pair.source, fleet.pair.target)}
    fleet.run_until(None)
    for _ in range(2):  # by a read first, by a write first; the map never changes
        with closing(Router(StaticMapSource(old), shards)) as router:
            assert router.query(start.tailnum, CYCLES, (start.tailnum,))
    with closing(Router(StaticMapSource(old), shards)) as router:
        ((cycles,),) = router.execute(start.tailnum, CYCLE, (start.tailnum,))
        assert cycles == start.cycles + 1
        assert [read.shard for read in router.report(COUNT, buckets=[start.bucket])] == ["target"]
    with fleet.pair.target.connect() as conn:  # of its own: by the application's role it may go on reading
        assert SHADOW not in {one.role for one in schema_usage.of(conn, fleet.buckets)}
