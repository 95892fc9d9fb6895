"""The standby that other tests fail over to: it streams, can be held back, and takes over the address."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.guard import Side
from tests.integration.failover_fleet import failover_fleet
from tests.integration.moving_fleet import BUCKETS, wait_until
from tests.integration.standby import failover_shard


@pytest.mark.parametrize("slot", [False, True])
def test_a_promoted_standby_lacks_exactly_what_was_held_back(servers: ThrowawayServers, slot: bool) -> None:
    with failover_shard(servers, "source", slot=slot) as shard:
        with shard.connect() as conn:
            conn.execute("CREATE TABLE seen (what text)")
            conn.execute("INSERT INTO seen VALUES ('before')")
            shard.standby.wait_until_level()
            shard.standby.hold_receive()
            conn.execute("INSERT INTO seen SELECT 'held back' FROM generate_series(1, 100000)")
            assert shard.standby.is_streaming
        shard.fail_over()
        with shard.connect() as conn:
            assert conn.execute("SELECT what FROM seen").fetchall() == [("before",)]
            assert conn.execute(
                "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 8, 1)"
            ).fetchone() == ("2",)
            conn.execute("INSERT INTO seen VALUES ('after')")


def test_what_was_held_back_arrives_when_it_is_released(servers: ThrowawayServers) -> None:
    with failover_shard(servers, "source") as shard:
        shard.standby.hold_receive()
        with shard.connect() as conn:
            conn.execute("CREATE TABLE seen AS SELECT generate_series(1, 200000) AS number")
        shard.standby.release_receive()
        shard.standby.wait_until_level()
        with shard.standby.connect(shard.database) as conn:
            assert conn.execute("SELECT count(*) FROM seen").fetchone() == (200000,)


def test_a_standby_can_be_killed_and_started_again(servers: ThrowawayServers) -> None:
    with failover_shard(servers, "source", slot=True) as shard:
        shard.standby.kill9()
        wait_until(lambda: not shard.standby.is_streaming, "its primary has noticed")
        shard.standby.start()
        shard.standby.wait_until_level()


def test_a_fleet_of_such_shards_migrates(servers: ThrowawayServers, tmp_path: Path) -> None:
    with failover_fleet(servers, list(Side), tmp_path, slot=True) as fleet:
        fleet.run_until(None)
        assert fleet.store.get(fleet.migration).stage is Stage.DONE
        assert fleet.leftovers() == []
        target = fleet.failover(Side.TARGET)
        target.standby.wait_until_level()
        target.fail_over()
        assert fleet.schemas(target) == list(BUCKETS)
