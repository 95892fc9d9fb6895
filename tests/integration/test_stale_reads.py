"""What a router that is cut off from the control database reads while its bucket's keys change hands."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from time import monotonic

import pytest
from psycopg.conninfo import make_conninfo

from foreshard.control.engine import ControlDatabase
from foreshard.control.router_store import RouterStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardPair
from foreshard.router import ControlMapSource, Router
from foreshard.topology.keys import KeyType
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.guarded_fleet import BOUND, BUCKETS, KEY, Fleet, routing_map
from tests.integration.moving_fleet import wait_until

CYCLES = "SELECT cycles FROM {aircraft} WHERE tailnum = %s"
WRITTEN = 77


@pytest.fixture
def fleet(shard_pair: ShardPair) -> Fleet:
    return Fleet(shard_pair)


@pytest.fixture
def control(control_dsn: str, fleet: Fleet) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(control_dsn)) as database:
        database.migrate()
        topology = TopologyStore(database)
        topology.describe_fleet(KeyType.TEXT, {"aircraft": "tailnum", "event": "tailnum"})
        for shard in (fleet.pair.source, fleet.pair.target):
            topology.put_shard(ShardRecord(shard.name, shard.operator_dsn, shard.application_dsn, {}))
        topology.put_buckets(BUCKETS, routing_map().placement)
        yield database


@dataclass(frozen=True)
class _Read:
    begun: float
    cycles: object


@pytest.mark.parametrize("waits", [True, False], ids=["runner waits", "runner does not"])
def test_a_router_that_is_cut_off_reads_nothing_stale_if_its_lease_is_waited_for(
    fleet: Fleet, control: ControlDatabase, control_server: PostgresServer, waits: bool
) -> None:
    """Without the wait it does: that is what the wait is for, and that this test can see it."""
    store = RouterStore(control)
    reads: list[_Read] = []
    over = threading.Event()
    with ExitStack() as stack:
        proxy = stack.enter_context(BreakableProxy(control_server.port))
        control_server.passwords.copy_port(control_server.port, proxy.port)
        through = stack.enter_context(
            closing(ControlDatabase(make_conninfo(control.conninfo, port=proxy.port)))
        )
        source = ControlMapSource(
            through.conninfo,
            TopologyStore(through).routing_map,
            RouterStore(through).registration("shop", 1.5 if waits else 60.0),
        )
        router = stack.enter_context(closing(Router(source, fleet.dsns)))
        assert router.query(KEY, CYCLES, (KEY,)) == [(0,)]

        def read() -> None:
            while not over.is_set():
                begun = monotonic()
                ((cycles,),) = router.query(KEY, CYCLES, (KEY,))
                reads.append(_Read(begun, cycles))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        proxy.hold()
        fleet.begin_migration()
        TopologyStore(control).put_buckets(BUCKETS, routing_map().placement)  # the epoch that says so
        epoch = TopologyStore(control).routing_epoch()
        if waits:
            wait_until(lambda: not store.waiting_for(epoch), "the end of its lease")
        assert router.map.epoch < epoch
        fleet.flip(BOUND)
        with fleet.pair.target.connect() as conn:  # as another router's write, which the guard accepts
            conn.execute("UPDATE b0000.aircraft SET cycles = %s WHERE tailnum = %s", (WRITTEN, KEY))
        written = monotonic()
        wait_until(lambda: sum(one.begun > written for one in list(reads)) > 50, "reads after the write")
        over.set()
        for reader in readers:
            reader.join()
        proxy.refuse()
        proxy.cut()
    after = {one.cycles for one in reads if one.begun > written}
    assert after == ({WRITTEN} if waits else {0})
