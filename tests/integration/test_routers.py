"""Routers that are registered, and what waits for them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from time import monotonic

import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.router_store import RouterStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import InvalidInput, LeaseLost
from foreshard.fleet.server import PostgresServer
from foreshard.migration import janitor
from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Progress
from foreshard.migration.routers import await_acknowledged
from foreshard.router import ControlMapSource
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import RoutingMap
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.moving_fleet import MovingFleet, allow, wait_until

BUCKETS = ("b0", "b1")


@pytest.fixture
def control(control_dsn: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(control_dsn)) as database:
        database.migrate()
        topology = TopologyStore(database)
        topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
        topology.put_shard(ShardRecord("one", "dbname=one", "dbname=one", {}))
        publish(database)
        yield database


def publish(control: ControlDatabase) -> int:
    """A new epoch; what changes does not matter here."""
    TopologyStore(control).put_buckets(BUCKETS, Placement(dict.fromkeys(BUCKETS, "one")))
    return TopologyStore(control).routing_epoch()


@contextmanager
def source(
    control: ControlDatabase, lease_s: float = 10.0, load: Callable[[], RoutingMap] | None = None
) -> Iterator[ControlMapSource]:
    """The map source of an application called shop."""
    load = load or TopologyStore(control).routing_map
    registration = RouterStore(control).registration("shop", lease_s)
    with closing(ControlMapSource(control.conninfo, load, registration)) as following:
        yield following


@contextmanager
def breakable(
    control: ControlDatabase, server: PostgresServer, lease_s: float
) -> Iterator[tuple[ControlMapSource, BreakableProxy]]:
    """The same, by way of a proxy."""
    with BreakableProxy(server.port) as proxy:
        server.passwords.copy_port(server.port, proxy.port)
        through = ControlDatabase(make_conninfo(control.conninfo, port=proxy.port))
        with closing(through), source(through, lease_s) as following:
            assert following.fresh()
            yield following, proxy
            proxy.refuse()
            proxy.cut()


@contextmanager
def cut_off(control: ControlDatabase, server: PostgresServer, lease_s: float) -> Iterator[ControlMapSource]:
    """A router that registered and cannot reach the control database any more."""
    with breakable(control, server, lease_s) as (following, proxy):
        proxy.hold()
        yield following


def test_a_router_registers_tells_what_it_has_in_use_and_leaves(control: ControlDatabase) -> None:
    store = RouterStore(control)
    with source(control) as following:
        assert following.fresh()
        (one,) = store.live()
        assert (one.application, one.lease_s, one.epoch) == ("shop", 10.0, following.current().epoch)
        assert one.name.startswith("shop on ")
        epoch = publish(control)
        wait_until(lambda: not store.waiting_for(epoch), "the acknowledgement")
        assert following.current().epoch == epoch
        assert [later.id for later in store.waiting_for(epoch + 1)] == [one.id]
    assert store.all() == ()


def test_an_epoch_is_acknowledged_by_notification_once_it_is_in_use(control: ControlDatabase) -> None:
    """Polling alone would take a hundred seconds, and a map that is only on its way does not count."""
    store, topology = RouterStore(control), TopologyStore(control)
    on_its_way, go_on = threading.Event(), threading.Event()
    go_on.set()

    def load() -> RoutingMap:
        newest = topology.routing_map()
        on_its_way.set()
        assert go_on.wait(10)
        return newest

    with source(control, 300.0, load) as following:
        go_on.clear()
        on_its_way.clear()
        epoch = publish(control)
        assert on_its_way.wait(10)
        assert len(store.waiting_for(epoch)) == 1
        go_on.set()
        wait_until(lambda: not store.waiting_for(epoch), "the acknowledgement")
        assert following.current().epoch == epoch


def test_what_makes_a_map_fresh_was_stored_before_the_map_was_read(control: ControlDatabase) -> None:
    """Else a runner could publish and look at the routers between the two, and see nobody to wait for."""
    store, topology = RouterStore(control), TopologyStore(control)
    seen: list[float | None] = []

    def load() -> RoutingMap:
        rows = store.all()
        seen.append(rows[0].silent_s if rows else None)
        return topology.routing_map()

    with source(control, 30.0, load) as following:
        assert following.fresh()
        assert seen[0] is None  # nothing in use, nothing told
        for _ in range(3):
            following.refresh()
        assert all(silent is not None and silent < 1 for silent in seen[1:])


def test_a_router_that_reads_no_map_tells_nothing(control: ControlDatabase) -> None:
    """It would be waited for, and never acknowledge."""
    store, topology = RouterStore(control), TopologyStore(control)
    broken = threading.Event()

    def load() -> RoutingMap:
        if broken.is_set():
            raise RuntimeError("permission denied")
        return topology.routing_map()

    with source(control, 1.5, load) as following:
        broken.set()
        wait_until(lambda: not store.live(), "its silence")
        assert not following.fresh()
        broken.clear()
        wait_until(following.fresh, "the map again")
        assert store.live()


def test_a_router_that_is_cut_off_is_stale_before_nobody_waits_for_it(
    control: ControlDatabase, control_server: PostgresServer
) -> None:
    store = RouterStore(control)
    with breakable(control, control_server, 1.5) as (following, proxy):
        proxy.hold()
        wait_until(lambda: not store.live(), "the end of its lease")
        assert not following.fresh()
        begun = monotonic()
        following.refresh()
        assert monotonic() - begun < 1.0
        (one,) = store.all()
        assert not one.live
        assert one.silent_s > 1.5
        proxy.release()
        wait_until(following.fresh, "the control database")
        assert [again.id for again in store.live()] == [one.id]


def test_without_its_row_a_router_has_its_map_and_is_never_fresh(
    control: ControlDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    with control.transaction() as session:
        session.execute(text("ALTER TABLE routers RENAME TO hidden"))
    with caplog.at_level(logging.WARNING), source(control) as following:
        for _ in range(3):
            following.refresh()
        assert not following.fresh()
        assert not following.state().registered
        epoch = publish(control)
        wait_until(lambda: following.current().epoch == epoch, "the newest map")
        told = [record.getMessage() for record in caplog.records if "register" in record.getMessage()]
        assert len(told) == 1
        assert "foreshard grants" in told[0]
        with control.transaction() as session:
            session.execute(text("ALTER TABLE hidden RENAME TO routers"))
        following.refresh()
        wait_until(following.fresh, "its row")


def test_a_restored_control_database_makes_no_router_fresh(control: ControlDatabase) -> None:
    topology = TopologyStore(control)
    newest = replace(topology.routing_map(), epoch=1000)
    restored = threading.Event()

    def load() -> RoutingMap:
        return topology.routing_map() if restored.is_set() else newest

    with source(control, 1.0, load) as following:
        assert following.fresh()
        restored.set()
        wait_until(lambda: not following.fresh(), "the end of its lease")
        assert following.current().epoch == 1000


@pytest.mark.parametrize("lease_s", [0.0, -1.0, 301.0, float("nan"), float("inf")])
def test_a_lease_that_is_none_is_refused(control: ControlDatabase, lease_s: float) -> None:
    with pytest.raises(InvalidInput, match="lease_s"):
        RouterStore(control).registration("shop", lease_s)
    with pytest.raises(IntegrityError), control.transaction() as session:
        session.execute(
            text(
                "INSERT INTO routers (id, application, host, pid, lease_s, epoch)"
                " VALUES (gen_random_uuid(), 'shop', 'web', 7, :lease_s, 1)"
            ),
            {"lease_s": lease_s},
        )


def test_routers_that_died_are_shown_for_an_hour(
    control: ControlDatabase, control_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RouterStore(control)
    epoch = TopologyStore(control).routing_epoch()
    for name in ("alive", "dead", "long dead"):
        store.registration(name).beat(epoch)
    with control.transaction() as session:
        for name, ago in (("dead", "5 minutes"), ("long dead", "2 hours")):
            session.execute(
                text("UPDATE routers SET heartbeat_at = now() - :ago ::interval WHERE application = :name"),
                {"ago": ago, "name": name},
            )
    janitor.clean(control, dry_run=True)
    assert len(store.all()) == 3
    store.forget_silent()
    publish(control)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    said = CliRunner().invoke(app, ["routers", "--json"])
    assert said.exit_code == 0, said.output
    rows = json.loads(said.stdout)
    assert [(row["application"], row["live"], row["newest"]) for row in rows] == [
        ("alive", True, False),
        ("dead", False, False),
    ]
    assert 299 < rows[1]["silent_s"] < 400
    said = CliRunner().invoke(app, ["routers"])
    assert said.exit_code == 0
    assert "expired" in said.stdout


# -- what waits for them ----------------------------------------------------------------------------------


@pytest.fixture
def no_quiet_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flip waits for a moment in which markers are fast, up to five seconds on a busy machine: not what is timed."""
    monkeypatch.setattr("foreshard.migration.flip.QUIET_PATIENCE_S", 0.0)


@pytest.mark.usefixtures("no_quiet_moment")
def test_the_first_flip_waits_for_a_router_that_is_cut_off_until_its_lease_is_over(
    copied_fleet: MovingFleet, control_server: PostgresServer
) -> None:
    """And for no other: of those that answer each knows of the migration."""
    store = RouterStore(copied_fleet.control)
    with (
        copied_fleet.runner() as runner,
        source(copied_fleet.control) as lively,
        cut_off(copied_fleet.control, control_server, 3.0) as stale,
    ):
        published = runner.work.facts()["published_epoch"]
        with copied_fleet.control.transaction() as session:  # the stale one has a map from before
            session.execute(text("UPDATE routers SET epoch = :old WHERE lease_s = 3"), {"old": published - 1})
        done = flip(runner.work, 100)
        assert done is not None
        assert not stale.fresh()
        (one,) = (row for row in store.all() if not row.live)
        flipped_after = one.silent_s
        assert lively.fresh()
        flip(runner.work, 0)
        began = monotonic()
        flip(runner.work, 100)  # it knows by now, or is silent
        assert monotonic() - began < 1.5
        flip(runner.work, 0)
    assert flipped_after < 3.0 + 1.5  # a lease, a poll, and a flip


@pytest.mark.usefixtures("no_quiet_moment")
def test_a_router_that_knew_of_the_migration_is_not_waited_for(
    copied_fleet: MovingFleet, control_server: PostgresServer
) -> None:
    with copied_fleet.runner() as runner, cut_off(copied_fleet.control, control_server, 60.0):
        began = monotonic()
        flip(runner.work, 100)
        flip(runner.work, 0)
        assert monotonic() - began < 30  # half of the lease


def test_who_waits_stops_when_the_lease_is_lost(
    copied_fleet: MovingFleet, control_server: PostgresServer
) -> None:
    with copied_fleet.runner() as runner, cut_off(copied_fleet.control, control_server, 60.0):
        heard: list[Progress] = []
        epoch = runner.work.store.set_routing(runner.work.lease)

        def report(progress: Progress) -> None:
            heard.append(progress)
            with copied_fleet.control.transaction() as session:
                session.execute(text("UPDATE migrations SET lease_token = lease_token + 1"))

        with pytest.raises(LeaseLost):
            await_acknowledged(runner.work, epoch, report)
        assert heard[0].text.startswith("waiting for routers shop on ")
        with copied_fleet.control.transaction() as session:
            session.execute(text("UPDATE migrations SET lease_token = lease_token - 1"))


@pytest.mark.slow
def test_finalise_waits_for_a_bounded_time_and_names_who_has_not_heard(
    fleet: MovingFleet, control_server: PostgresServer
) -> None:
    fleet.configure(router_ack_timeout_s=1.0)
    fleet.run_until(Stage.CUTOVER)
    with (
        fleet.runner() as runner,
        source(fleet.control),
        cut_off(fleet.control, control_server, 120.0),
    ):
        fleet.run_until(Stage.FINALISE, runner)
        step = runner.next_step()
        assert step is not None
        allow(runner, step)
        heard: list[Progress] = []
        runner.perform(step, heard.append)
        waited = [one for one in heard if one.text.startswith("waiting for routers shop on ")]
        assert waited
        assert waited[-1].total == 1.0
        detail = fleet.store.stage_runs(fleet.migration)[-1].detail
        assert len(detail["routers_behind"]) == 1  # the other one has heard
        assert detail["routers_behind"][0] in detail["not_waited_for"]
    assert fleet.leftovers() == []
