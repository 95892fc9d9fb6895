"""The router on real servers, with the real guard."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from time import monotonic, sleep

import psycopg
import pytest
from psycopg import sql

from foreshard.control.engine import ControlDatabase
from foreshard.control.router_store import RouterStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import (
    ForeshardError,
    RefusedWrite,
    ShardUnavailable,
    SpansOwners,
    UnknownCommitOutcome,
)
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardPair
from foreshard.router import (
    Addressing,
    ControlMapSource,
    Isolation,
    Router,
    StaticMapSource,
    Transaction,
)
from foreshard.router.fleet_router import fleet_router
from foreshard.topology.keys import KeyType, slot
from foreshard.topology.routing_map import RoutingMap
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.guarded_fleet import (
    BOUND,
    BUCKETS,
    KEY,
    LATE_KEY,
    RESTING_KEY,
    Fleet,
    redirection,
    routing_map,
)


@pytest.fixture
def fleet(shard_pair: ShardPair) -> Fleet:
    return Fleet(shard_pair)


@pytest.fixture
def routers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def make_router(fleet: Fleet, routers: ExitStack) -> Callable[..., Router]:
    def make(source: StaticMapSource | None = None, **options: object) -> Router:
        router = Router(source or StaticMapSource(routing_map()), fleet.dsns, **options)  # type: ignore[arg-type]
        return routers.enter_context(closing(router))

    return make


def fly(key: str) -> Callable[[Transaction], int]:
    def body(tx: Transaction) -> int:
        return tx.execute("UPDATE {aircraft} SET cycles = cycles + 1 WHERE tailnum = %s", (key,)).rowcount

    return body


def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    until = monotonic() + timeout_s
    while not condition():
        assert monotonic() < until, "waited in vain"
        sleep(0.01)


def test_transactions_reach_the_buckets_shard_by_qualified_names(make_router: Callable[..., Router]) -> None:
    router = make_router()
    for key, bucket, shard in ((KEY, "b0000", "source"), (RESTING_KEY, "b0001", "target")):
        with router.write(key) as tx:
            assert (tx.route.shard, tx.schema, tx.redirected) == (shard, bucket, False)
            tx.execute(
                sql.SQL("UPDATE {} SET cycles = 5 WHERE tailnum = %s").format(tx.table("aircraft")), (key,)
            )
            assert tx.execute("SHOW search_path").fetchall() == [("pg_catalog",)]
        assert router.query(key, "SELECT cycles FROM {aircraft} WHERE tailnum = %s", (key,)) == [(5,)]
    sums = {read.bucket: read for read in router.report("SELECT sum(cycles) FROM {aircraft}")}
    assert {bucket: (read.shard, read.rows, read.exact) for bucket, read in sums.items()} == {
        "b0000": ("source", [(5,)], True),
        "b0001": ("target", [(5,)], True),
    }


def test_a_read_transaction_cannot_write(make_router: Callable[..., Router]) -> None:
    router = make_router()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), router.read(KEY) as tx:
        fly(KEY)(tx)


def test_asking_for_the_owner_costs_no_round_trip(fleet: Fleet) -> None:
    fleet.begin_migration()
    with BreakableProxy(fleet.pair.source.server.port) as proxy:
        through = fleet.source_dsn_at(proxy.port)
        with psycopg.connect(through, autocommit=True) as bare:
            before = proxy.round_trips
            bare.execute("BEGIN")
            bare.execute("UPDATE b0000.aircraft SET cycles = 1 WHERE tailnum = %s", (LATE_KEY,))
            bare.execute("COMMIT")
            bare_trips = proxy.round_trips - before
        with closing(
            Router(StaticMapSource(routing_map()), {"source": through}, connections_per_shard=1)
        ) as router:
            router.run(LATE_KEY, fly(LATE_KEY))
            before = proxy.round_trips
            router.run(LATE_KEY, fly(LATE_KEY))
            assert proxy.round_trips - before == bare_trips == 3
    assert fleet.cycles(fleet.pair.source, LATE_KEY) == 3


def test_a_stale_map_heals_by_a_refusal_while_the_control_database_is_down(
    fleet: Fleet, control_dsn: str, control_server: PostgresServer
) -> None:
    with (
        closing(described_control(control_dsn, fleet)) as control,
        closing(fleet_router(control, "test")) as router,
    ):
        assert router.run(KEY, fly(KEY)) == 1
        assert router.run(RESTING_KEY, fly(RESTING_KEY)) == 1
        fleet.begin_migration()
        control_server.stop()
        fleet.flip(BOUND)

        assert router.map.redirections == ()
        assert router.run(KEY, fly(KEY)) == 1  # refused by the source, accepted by the target
        assert router.map.redirection_of("b0000") == redirection(BOUND)
        assert router.run(LATE_KEY, fly(LATE_KEY)) == 1  # the source still owns the other slots
        with router.write(KEY) as tx:
            assert tx.redirected
        assert router.query(KEY, "SELECT cycles FROM {aircraft} WHERE tailnum = %s", (KEY,)) == [(1,)]
    assert fleet.cycles(fleet.pair.source, KEY) == 1
    assert fleet.cycles(fleet.pair.target, KEY) == 1
    assert fleet.cycles(fleet.pair.source, LATE_KEY) == 1


def test_a_write_waits_while_the_key_has_no_owner(fleet: Fleet, make_router: Callable[..., Router]) -> None:
    fleet.begin_migration()
    router = make_router(StaticMapSource(routing_map(1, redirection(0))))
    fleet.close(BOUND)
    done: list[int] = []
    writer = threading.Thread(target=lambda: done.append(router.run(KEY, fly(KEY))))
    writer.start()
    wait_until(lambda: router.map.redirection_of("b0000") == redirection(BOUND))  # refused by the source
    assert not done
    fleet.open(BOUND)
    writer.join()
    assert done == [1]
    assert fleet.cycles(fleet.pair.target, KEY) == 1


def test_a_write_that_nobody_accepts_is_refused_at_the_deadline(
    fleet: Fleet, make_router: Callable[..., Router]
) -> None:
    fleet.begin_migration()
    fleet.close(BOUND)
    router = make_router(StaticMapSource(routing_map(1, redirection(0))), deadline_s=2.0)
    begun = monotonic()
    with pytest.raises(RefusedWrite) as refused:
        router.run(KEY, fly(KEY))
    assert monotonic() - begun < 4
    assert refused.value.details["attempts"] > 2
    with pytest.raises(RefusedWrite), router.write(KEY):
        pytest.fail("the block must not be entered")


def test_a_block_that_is_refused_half_way_leaves_nothing(
    fleet: Fleet, make_router: Callable[..., Router]
) -> None:
    fleet.begin_migration()
    fleet.flip(BOUND)
    router = make_router(StaticMapSource(routing_map(1, redirection(BOUND))))

    def two_keys() -> None:
        with router.write(KEY) as tx:
            fly(KEY)(tx)
            fly(LATE_KEY)(tx)  # owned by the source

    with pytest.raises(RefusedWrite):
        two_keys()
    assert fleet.cycles(fleet.pair.target, KEY) == 0


def test_reads_of_a_bucket_in_migration_are_served_by_the_owner(
    fleet: Fleet, make_router: Callable[..., Router]
) -> None:
    fleet.begin_migration()
    fleet.flip(BOUND)
    router = make_router(
        StaticMapSource(routing_map(1, redirection(0)))
    )  # knows of the move, not of the flip
    router.run(KEY, fly(KEY))
    stale = make_router(StaticMapSource(routing_map(1, redirection(0))))
    assert stale.query(KEY, "SELECT cycles FROM {aircraft} WHERE tailnum = %s", (KEY,)) == [(1,)]


def test_an_unknown_commit_is_never_repeated(fleet: Fleet) -> None:
    with BreakableProxy(fleet.pair.source.server.port) as proxy:
        through = fleet.source_dsn_at(proxy.port)
        with closing(Router(StaticMapSource(routing_map()), {"source": through})) as router:
            calls = []

            def body(tx: Transaction) -> None:
                calls.append(tx.route.shard)
                fly(KEY)(tx)
                proxy.lose_commit.set()

            with pytest.raises(UnknownCommitOutcome) as unknown:
                router.run(KEY, body)
            assert proxy.lost_commit.is_set()
            assert calls == ["source"]
            assert unknown.value.remedy
            # This one did happen: a blind retry would have doubled it.
            assert fleet.cycles(fleet.pair.source, KEY) == 1
            assert router.run(KEY, fly(KEY)) == 1  # the broken connection is not used again


def test_a_server_that_dies_inside_commit_leaves_it_unknown(
    fleet: Fleet, make_router: Callable[..., Router]
) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute(
            "CREATE FUNCTION foreshard.die() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$"
        )
        conn.execute(
            "CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON b0000.aircraft DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION foreshard.die()"
        )
    with pytest.raises(UnknownCommitOutcome):
        make_router().run(KEY, fly(KEY))
    assert fleet.cycles(fleet.pair.source, KEY) == 0


def test_a_refused_commit_is_a_known_outcome(fleet: Fleet, make_router: Callable[..., Router]) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute(
            "ALTER TABLE b0000.event ALTER CONSTRAINT event_tailnum_fkey DEFERRABLE INITIALLY DEFERRED"
        )
    with pytest.raises(psycopg.errors.ForeignKeyViolation), make_router().write(KEY) as tx:
        tx.execute("INSERT INTO {event} VALUES (%s, 'nobody')", (uuid.uuid4(),))


def test_a_connection_lost_before_commit_is_repeated_and_applies_once(
    fleet: Fleet, make_router: Callable[..., Router]
) -> None:
    router = make_router()
    calls = []

    def body(tx: Transaction) -> None:
        fly(KEY)(tx)
        calls.append(1)
        if len(calls) == 1:
            (pid,) = tx.execute("SELECT pg_backend_pid()").fetchall()[0]
            with fleet.pair.source.connect() as conn:
                conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    router.run(KEY, body)
    assert len(calls) == 2
    assert fleet.cycles(fleet.pair.source, KEY) == 1


def test_concurrent_read_modify_write_loses_nothing(fleet: Fleet, make_router: Callable[..., Router]) -> None:
    router = make_router()

    def increment(tx: Transaction) -> None:
        ((cycles,),) = tx.execute("SELECT cycles FROM {aircraft} WHERE tailnum = %s", (KEY,)).fetchall()
        tx.execute("UPDATE {aircraft} SET cycles = %s WHERE tailnum = %s", (cycles + 1, KEY))

    def work() -> None:
        for _ in range(10):
            router.run(KEY, increment, isolation=Isolation.REPEATABLE_READ)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fleet.cycles(fleet.pair.source, KEY) == 40


def test_a_swallowed_error_and_a_foreign_commit_are_told(make_router: Callable[..., Router]) -> None:
    router = make_router()
    with pytest.raises(ForeshardError, match="swallowed"), router.write(KEY) as tx, suppress(psycopg.Error):
        tx.execute("SELECT 1/0")
    with pytest.raises(ForeshardError, match="ended inside"), router.write(KEY) as tx:
        tx.execute("COMMIT")


def test_a_dropped_copy_means_a_stale_map(fleet: Fleet, make_router: Callable[..., Router]) -> None:
    class Forgetful(StaticMapSource):
        def refresh(self) -> RoutingMap:
            self.map = routing_map(2, on="target")
            return self.map

    with fleet.pair.source.connect() as conn:
        conn.execute("DROP SCHEMA b0000 CASCADE")
    router = make_router(Forgetful(routing_map()))
    assert router.run(KEY, fly(KEY)) == 1
    assert fleet.cycles(fleet.pair.target, KEY) == 1


def test_a_table_that_is_nowhere_is_the_applications_mistake(make_router: Callable[..., Router]) -> None:
    begun = monotonic()
    with pytest.raises(psycopg.errors.UndefinedTable):
        make_router().query(KEY, "SELECT 1 FROM {airplanes}")
    assert monotonic() - begun < 2


def test_a_shard_that_is_down_fails_alone_and_comes_back(
    fleet: Fleet, make_router: Callable[..., Router]
) -> None:
    router = make_router(deadline_s=1.0)
    router.run(KEY, fly(KEY))
    fleet.pair.source.server.stop()
    with pytest.raises(ShardUnavailable):
        router.run(KEY, fly(KEY))
    assert router.run(RESTING_KEY, fly(RESTING_KEY)) == 1
    fleet.pair.source.server.start()
    patient = make_router()
    assert patient.run(KEY, fly(KEY)) == 1

    def back() -> bool:
        try:
            return router.run(KEY, fly(KEY)) == 1
        except ShardUnavailable:
            return False

    wait_until(back)
    assert fleet.cycles(fleet.pair.source, KEY) == 3


def described_control(dsn: str, fleet: Fleet) -> ControlDatabase:
    control = ControlDatabase(dsn)
    control.migrate()
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"aircraft": "tailnum", "event": "tailnum"})
    for shard in (fleet.pair.source, fleet.pair.target):
        topology.put_shard(ShardRecord(shard.name, shard.operator_dsn, shard.application_dsn, {}))
    topology.put_buckets(BUCKETS, routing_map().placement)
    return control


def test_the_map_follows_the_control_database_through_its_restart(
    fleet: Fleet, control_dsn: str, control_server: PostgresServer
) -> None:
    with closing(described_control(control_dsn, fleet)) as control:
        topology = TopologyStore(control)
        registration = RouterStore(control).registration("test")
        with closing(ControlMapSource(control_dsn, topology.routing_map, registration)) as source:
            first = source.current()
            assert first.placement == routing_map().placement
            assert source.fresh()

            topology.put_buckets(BUCKETS, routing_map(on="target").placement)
            begun = monotonic()
            wait_until(lambda: source.current().epoch > first.epoch)
            assert monotonic() - begun < 2  # by NOTIFY: polling would take three seconds
            second = source.current()

            control_server.stop()
            begun = monotonic()
            assert source.refresh() == second
            assert monotonic() - begun < 1.5

            control_server.start()
            wait_until(lambda: source.refresh() is not second)
            topology.put_buckets(BUCKETS, routing_map().placement)
            wait_until(lambda: source.refresh().placement == routing_map().placement)


def test_round_trips(fleet: Fleet) -> None:
    """What each kind of call costs on the wire: a read one, at rest and while its bucket moves; a write three."""
    fleet.begin_migration()
    moving = StaticMapSource(routing_map(1, redirection(0)))
    read, write = "SELECT cycles FROM {aircraft} WHERE tailnum = %s", fly(LATE_KEY)
    with BreakableProxy(fleet.pair.source.server.port) as proxy:
        through = {"source": fleet.source_dsn_at(proxy.port)}
        for source in (StaticMapSource(routing_map()), moving):
            for addressing in Addressing:
                with closing(
                    Router(source, through, connections_per_shard=1, addressing=addressing)
                ) as router:
                    for trips, call in (
                        (1, lambda: router.query(LATE_KEY, read, (LATE_KEY,))),
                        (3, lambda: router.run(LATE_KEY, write)),
                    ):
                        call()  # opens the connection
                        before = proxy.round_trips
                        call()
                        assert proxy.round_trips - before == trips, (addressing, source.map)


def test_bare_names_mean_the_buckets_tables_alone(fleet: Fleet, make_router: Callable[..., Router]) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute("CREATE TABLE public.aircraft (tailnum text, cycles int)")
        conn.execute("GRANT ALL ON public.aircraft TO PUBLIC")
    router = make_router(addressing=Addressing.SEARCH_PATH)
    bare = "UPDATE aircraft SET cycles = cycles + 1 WHERE tailnum = %s"
    for key, shard in ((KEY, fleet.pair.source), (RESTING_KEY, fleet.pair.target)):
        for _ in range(10):  # psycopg prepares it on the way
            router.execute(key, bare, (key,))
        assert fleet.cycles(shard, key, "b0000" if key == KEY else "b0001") == 10
    with router.write(KEY) as tx:  # a temporary table of the same name does not stand before it
        tx.execute("CREATE TEMPORARY TABLE aircraft (tailnum text, cycles int) ON COMMIT DROP")
        assert tx.execute(bare, (KEY,)).rowcount == 1
    # After a copy is dropped nothing else takes its place.
    with fleet.pair.source.connect() as conn:
        conn.execute("DROP SCHEMA b0000 CASCADE")
    with pytest.raises(psycopg.errors.UndefinedTable):
        router.execute(KEY, bare, (KEY,))


def test_a_write_by_query_is_refused(make_router: Callable[..., Router]) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        make_router().query(KEY, "UPDATE {aircraft} SET cycles = 9")


def test_keys_of_two_owners_are_told_apart_from_other_refusals(
    fleet: Fleet, make_router: Callable[..., Router]
) -> None:
    fleet.begin_migration()
    fleet.flip(BOUND)
    router = make_router(StaticMapSource(routing_map(1, redirection(BOUND))), deadline_s=2.0)

    late = next(key for key in (f"{LATE_KEY}{n}" for n in range(100)) if slot(key, KeyType.TEXT) >= BOUND)
    with pytest.raises(SpansOwners) as told:
        router.run(
            KEY, lambda tx: tx.execute("UPDATE {aircraft} SET tailnum = %s WHERE tailnum = %s", (late, KEY))
        )
    assert "canary_percent" in str(told.value.remedy)


def test_a_shard_that_stays_down_is_not_waited_for(fleet: Fleet, make_router: Callable[..., Router]) -> None:
    router = make_router(deadline_s=0.5)
    router.run(KEY, fly(KEY))
    fleet.pair.source.server.stop()
    try:
        wait_until(lambda: fails_at_once(router))
        begun = monotonic()
        looks = 0
        for _ in range(200):
            with pytest.raises(ShardUnavailable, match="source") as away:
                router.run(KEY, fly(KEY))
            looks += "has not answered for" not in away.value.message  # which is said without a look
        assert looks <= 1 + (monotonic() - begun), "one a second looks whether it is back"
    finally:
        fleet.pair.source.server.start()

    def back() -> bool:
        with suppress(ShardUnavailable):
            return router.run(KEY, fly(KEY)) == 1
        return False

    wait_until(back)


def fails_at_once(router: Router) -> bool:
    begun = monotonic()
    try:
        router.run(KEY, fly(KEY))
    except ShardUnavailable:
        return monotonic() - begun < 0.1
    return False


def test_connections_that_all_are_in_use_are_named_so(make_router: Callable[..., Router]) -> None:
    router = make_router(deadline_s=2.0, connections_per_shard=1)
    with router.write(KEY), pytest.raises(ShardUnavailable, match="all 1 connections to source are in use"):
        router.run(LATE_KEY, fly(LATE_KEY))


def test_a_server_that_restarted_costs_one_attempt(fleet: Fleet, make_router: Callable[..., Router]) -> None:
    router = make_router(connections_per_shard=6, deadline_s=10.0)
    with ExitStack() as blocks:
        for _ in range(6):
            blocks.enter_context(router.write(RESTING_KEY))
    fleet.pair.target.server.stop()
    fleet.pair.target.server.start()
    pauses: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foreshard.router.router.sleep", pauses.append)
        assert router.run(RESTING_KEY, fly(RESTING_KEY)) == 1
    assert len(pauses) == 1, "five others were broken, too"
