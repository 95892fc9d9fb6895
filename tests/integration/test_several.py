"""Several migrations: two between the same servers at once, and one that waits for another (A -> B, B -> C)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg import sql

from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.airline import create_buckets
from foreshard.fleet.checker import CheckResult, OwnerReader, check
from foreshard.fleet.ledger import Ledger, Start
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration import chain
from foreshard.migration.chain import open_when_there
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import (
    BUCKETS,
    QUICK,
    MovingFleet,
    airline,
    assert_whole,
    drop_pair,
    wait_until,
    writers,
)

pytestmark = pytest.mark.slow

MORE = ("b0002", "b0003")


class WideFleet(MovingFleet):
    """Two more buckets on the source, a third shard, and writers to all four buckets."""

    def __init__(self, shards: Sequence[ShardDatabase], control_dsn: str, state_dir: Path) -> None:
        source, target, third = shards
        sampling = QUICK.model_copy(update={"canary_sample_s": 0.5})
        super().__init__(ShardPair(source, target), control_dsn, state_dir, sampling)
        self.shards = {shard.name: shard for shard in shards}
        TopologyStore(self.control).put_shard(
            ShardRecord(third.name, third.operator_dsn, third.application_dsn, {"queries_per_s": 100.0})
        )
        with connect(third.operator_dsn) as conn:
            guard.install(conn)
        with source.connect() as conn:
            create_buckets(conn, MORE, airline(), events_per_flight=2)

    def starts(self) -> list[Start]:
        """The same aircraft as ever, ten of each bucket, all still on the source."""
        with self.pair.source.connect() as conn:
            return [
                Start(str(tailnum), bucket, int(str(cycles)), int(str(flight)))
                for bucket in (*BUCKETS, *MORE)
                for tailnum, cycles, flight in conn.execute(
                    sql.SQL(
                        "SELECT tailnum, a.cycles, max(f.flight_id) FROM {} a JOIN {} f USING (tailnum)"
                        " GROUP BY tailnum, a.cycles ORDER BY tailnum LIMIT 10"
                    ).format(sql.Identifier(bucket, "aircraft"), sql.Identifier(bucket, "flights"))
                ).fetchall()
            ]

    def checked_at(self, ledger: Ledger, owners: dict[str, str]) -> CheckResult:
        """The history held against each bucket's owner."""
        reader = OwnerReader(owners, {name: shard.superuser_dsn for name, shard in self.shards.items()})
        return check(ledger.operations(), ledger.starts(), reader)

    def drive(self, migration: int, until: Stage | None = None) -> None:
        """Perform the steps of any migration."""
        with Runner(self.control, self.settings, migration, f"runner of {migration}") as runner:
            self.run_until(until, runner)

    def stage(self, migration: int) -> Stage:
        return self.store.get(migration).stage


@pytest.fixture
def wide(servers: ThrowawayServers, control_dsn: str, tmp_path: Path) -> Iterator[WideFleet]:
    shards = [servers.new_shard(name) for name in ("source", "target", "third")]
    fleet = WideFleet(shards, control_dsn, tmp_path)
    yield fleet
    fleet.close()
    servers.unsubscribe("third", shards[2].database)
    drop_pair(servers, fleet.pair)
    servers.drop("third", shards[2].database)


def owners(wide: WideFleet) -> dict[str, str]:
    placement = TopologyStore(wide.control).placement()
    return {
        bucket: shard
        for shard in wide.shards
        for bucket in placement.buckets_on(shard)
        if bucket in (*BUCKETS, *MORE)
    }


def test_two_migrations_between_the_same_servers_at_once(wide: WideFleet) -> None:
    source, target, _ = wide.shards
    other = wide.store.open(wide.plan(source, target, MORE))
    met = threading.Barrier(2, timeout=60)

    def whole(migration: int) -> None:
        wide.drive(migration, Stage.READ_SHADOW)
        met.wait()  # every flip of one while the other one's streams run too
        wide.drive(migration)

    with writers(wide) as writing, ThreadPoolExecutor(2) as at_once:
        list(at_once.map(whole, (wide.migration, other)))
        writing.wait_for_more(50)
        writing.stop()
        assert owners(wide) == dict.fromkeys((*BUCKETS, *MORE), target)
        assert_whole(wide.checked_at(writing.ledger, owners(wide)), redirected=True)
    assert wide.leftovers() == []
    for migration in (wide.migration, other):
        assert wide.stage(migration) is Stage.DONE
        assert [f.to_bound for f in wide.flips.flips(migration)][-1] == SLOTS


def test_one_is_reversed_while_the_other_goes_on(wide: WideFleet) -> None:
    source, target, _ = wide.shards
    other = wide.store.open(wide.plan(source, target, MORE))
    with writers(wide) as writing:
        for migration in (wide.migration, other):
            wide.drive(migration, Stage.SOAK)
        with Runner(wide.control, wide.settings, wide.migration, "back") as runner:
            runner.reverse(lambda _: None)
        writing.wait_for_more(30)
        wide.drive(other)
        writing.stop()
        assert owners(wide) == dict.fromkeys(BUCKETS, source) | dict.fromkeys(MORE, target)
        assert_whole(wide.checked_at(writing.ledger, owners(wide)), redirected=True)
    assert wide.leftovers() == []


def test_a_chained_migration_waits_and_then_moves_on_under_writers(wide: WideFleet) -> None:
    source, target, third = wide.shards
    plan = wide.plan(target, third, BUCKETS)
    told: list[str] = []

    def second() -> int:
        migration = open_when_there(wide.control, plan, 120, told.append)
        assert wide.stage(wide.migration) is Stage.DONE
        wide.drive(migration)
        return migration

    with writers(wide) as writing, ThreadPoolExecutor(1) as other, pytest.MonkeyPatch.context() as quick:
        quick.setattr(chain, "POLL_S", 0.1)
        chained = other.submit(second)
        wait_until(lambda: bool(told), "the second one waits")
        wide.drive(wide.migration)
        migration = chained.result(timeout=120)
        writing.wait_for_more(50)
        writing.stop()
        assert owners(wide) == dict.fromkeys(BUCKETS, third) | dict.fromkeys(MORE, source)
        assert_whole(wide.checked_at(writing.ledger, owners(wide)), redirected=True)
    assert wide.stage(migration) is Stage.DONE
    assert f"migration {wide.migration} is in preflight" in told[0]
    assert wide.leftovers() == []
    assert left_on(wide.shards[third]) == []


def left_on(shard: ShardDatabase) -> list[object]:
    with shard.connect() as conn:
        return conn.execute(
            "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"
            " UNION ALL SELECT migration FROM foreshard.sides UNION ALL SELECT bucket FROM foreshard.moving"
            " UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'foreshard\\_%'"
        ).fetchall()
