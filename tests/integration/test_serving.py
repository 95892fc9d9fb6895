"""A copy that does not serve is closed to the application, and a bucket that has left says where it went."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from foreshard.control.topology_store import TopologyStore
from foreshard.errors import PreflightFailed
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


@pytest.mark.slow
def test_a_role_that_is_dropped_meanwhile_stops_nothing(fleet: MovingFleet) -> None:
    roles = ("departed_reader", "departed_shadow")
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            conn.execute(f"CREATE ROLE {roles[0]}".encode())
            conn.execute(f"CREATE ROLE {roles[1]} LOGIN IN ROLE {APPLICATION}".encode())
    with fleet.pair.source.connect() as conn:
        conn.execute(f"GRANT USAGE ON SCHEMA b0000 TO {roles[0]}".encode())
    TopologyStore(fleet.control).describe_fleet(fleet.key_type, fleet.tables, shadow_role=roles[1])
    fleet.run_until(Stage.WRITE_REDIRECT)
    for shard in (fleet.pair.target, fleet.pair.source):
        with shard.connect() as conn:
            conn.execute(f"DROP OWNED BY {', '.join(roles)}".encode())
            conn.execute(f"DROP ROLE {', '.join(roles)}".encode())
    fleet.run_until(Stage.CUTOVER)
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert may_read(fleet.pair.source, APPLICATION)


@pytest.mark.parametrize(
    ("role", "made", "said"),
    [
        ("nobody_shadow", "", "source: shadow role nobody_shadow: is not there"),
        ("mute_shadow", f"CREATE ROLE mute_shadow IN ROLE {APPLICATION}", "may not log in: no reads"),
        ("strange_shadow", "CREATE ROLE strange_shadow LOGIN", f"is no member of {APPLICATION}: no reads"),
    ],
)
def test_preflight_looks_at_the_shadow_role(fleet: MovingFleet, role: str, made: str, said: str) -> None:
    TopologyStore(fleet.control).describe_fleet(fleet.key_type, fleet.tables, shadow_role=role)
    for shard in (fleet.pair.source, fleet.pair.target):
        if made:
            with shard.connect() as conn:
                conn.execute(made.encode())
    with fleet.runner() as runner:
        if not made:
            with pytest.raises(PreflightFailed, match=said):
                runner.perform(runner.next_step(), ignore)  # type: ignore[arg-type]
            return
        runner.perform(runner.next_step(), ignore)  # type: ignore[arg-type]
        told = [f"{one['subject']}: {one['why']}" for one in preflight_findings(fleet)]
    assert sum(said in one for one in told) == 2, told
    for shard in (fleet.pair.source, fleet.pair.target):  # roles belong to the servers, which tests share
        with shard.connect() as conn:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def preflight_findings(fleet: MovingFleet) -> list[dict[str, str]]:
    (run,) = [one for one in fleet.store.stage_runs(fleet.migration) if one.stage == Stage.PREFLIGHT]
    return list(run.detail["findings"])
