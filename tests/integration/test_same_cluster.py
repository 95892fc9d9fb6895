"""Two databases of one cluster as source and target: slots, origins and WAL are the server's, all else is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.migration import janitor
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import guard, migration_objects, replication_slots, subscriptions
from foreshard.postgres.connect import connect, with_password
from tests.integration.moving_fleet import MovingFleet, assert_whole, drop_pair, ignore, writers

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(servers: ThrowawayServers, control_dsn: str, tmp_path: Path) -> Iterator[MovingFleet]:
    """A fleet of two shards on one server, with a migration that has not begun."""
    pair = ShardPair(*(servers.new_shard(name, server_name="source") for name in ("left", "right")))
    fleet = MovingFleet(pair, control_dsn, tmp_path)
    yield fleet
    fleet.close()
    drop_pair(servers, pair)


def test_migrate(cluster: MovingFleet) -> None:
    with writers(cluster) as writing:
        cluster.run_until(None)
        writing.wait_for_more(50)
        writing.stop()
        assert_whole(cluster.checked(writing.ledger, cluster.pair.target), redirected=True)
    assert cluster.store.get(cluster.migration).stage is Stage.DONE
    assert (cluster.leftovers(), cluster.schemas(cluster.pair.source)) == ([], [])


def test_reverse_and_what_each_database_has_before_and_after(cluster: MovingFleet) -> None:
    before = _origins(cluster)
    with writers(cluster) as writing:
        cluster.run_until(Stage.SOAK)
        _assert_own_objects(cluster)
        assert janitor.clean(cluster.control) == [], "nothing of a migration under way is the janitor's"
        writing.wait_for_more(50)
        with cluster.runner() as runner:
            runner.reverse(ignore)
        writing.wait_for_more(50)
        writing.stop()
        assert_whole(cluster.checked(writing.ledger, cluster.pair.source), redirected=True)
    assert cluster.store.get(cluster.migration).stage is Stage.REVERSED
    assert (cluster.leftovers(), cluster.schemas(cluster.pair.target)) == ([], [])
    assert janitor.clean(cluster.control) == []
    assert _origins(cluster) <= before


def test_abort(cluster: MovingFleet) -> None:
    with writers(cluster) as writing:
        cluster.run_until(Stage.CUTOVER)
        with cluster.runner() as runner:
            runner.abort(ignore)
        writing.stop()
        assert_whole(cluster.checked(writing.ledger, cluster.pair.source), redirected=True)
    assert cluster.store.get(cluster.migration).stage is Stage.ABORTED
    assert (cluster.leftovers(), cluster.schemas(cluster.pair.target)) == ([], [])


def test_a_subscription_that_makes_its_slot_itself_would_wait_for_itself(cluster: MovingFleet) -> None:
    """Why `subscriptions.subscribe` makes the slot first. On two servers the statement takes milliseconds."""
    cluster.run_until(Stage.BACKFILL)
    with cluster.runner() as runner:
        names = runner.work.names
    source, target = (shard.operator_dsn for shard in (cluster.pair.source, cluster.pair.target))
    statement = sql.SQL(
        "CREATE SUBSCRIPTION plain CONNECTION {} PUBLICATION {} WITH (copy_data = false)"
    ).format(sql.Literal(with_password(source)), sql.Identifier(names.publication))
    with connect(target, statement_timeout_s=3) as conn, connect(source, statement_timeout_s=3) as publisher:
        # It fails, and holds a password: other tests search this server's log for that.
        with pytest.raises(psycopg.errors.QueryCanceled), subscriptions._unlogged(conn):
            conn.execute(statement)
        replication_slots.drop(publisher, "plain")
        subscriptions.subscribe(conn, publisher, source, names, names.forward, copy_data=False)
        subscriptions.unsubscribe(conn, names.forward)


def _origins(fleet: MovingFleet) -> set[str]:
    """Origins are the cluster's, in no database's list, and other tests share this cluster."""
    with fleet.pair.source.connect() as conn:
        return {str(name) for (name,) in conn.execute("SELECT roname FROM pg_replication_origin")}


def _assert_own_objects(fleet: MovingFleet) -> None:
    with fleet.runner() as runner:
        names = runner.work.names
    streams = {"source": (names.forward, names.reverse), "target": (names.reverse, names.forward)}
    for side, (slot, subscription) in streams.items():
        shard = getattr(fleet.pair, side)
        with connect(shard.operator_dsn) as conn:
            found = migration_objects.of_migration(conn, names)
            assert [one for one in found if one.startswith(("slot", "sub"))] == [
                f"slot {slot}",
                f"subscription {subscription}",
            ]
            state = guard.state(conn, names)
            assert state is not None
            assert (state.same_system, state.same_timeline) == (True, True)
