"""The control database: schema, leases, gates, load, what is final."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.exc import DBAPIError, IntegrityError

from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.lease import Lease
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_models import Migration, MigrationBucket
from foreshard.control.migration_store import MigrationStore
from foreshard.control.models import Base
from foreshard.control.plan_store import PlanStore
from foreshard.control.progress_store import ProgressStore
from foreshard.control.rate_store import RateStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import (
    ForeshardError,
    GateRefused,
    IllegalTransition,
    InvalidInput,
    LeaseLost,
    NotFound,
)
from foreshard.load.sample import Sample
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.measured import Measured
from foreshard.migration.progress import Progress
from foreshard.migration.progress_keeper import ProgressKeeper
from foreshard.planning.learnt_rates import LearntRates, RateKind
from foreshard.topology.keys import SLOTS, KeyType
from foreshard.topology.placement import Placement
from tests.integration.moving_fleet import wait_until
from tests.plans import new_plan

NOW = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)


FLEET_OF_0004 = """
    INSERT INTO control_plane (singleton, id, routing_epoch, key_type) VALUES (true, 'abcd', 7, 'text');
    INSERT INTO shards (name, dsn, application_dsn, capacity)
        VALUES ('one', 'dbname=one', 'dbname=one', '{}'), ('two', 'dbname=two', 'dbname=two', '{}');
    INSERT INTO buckets (name, number, shard) VALUES ('b0', 0, 'one');
"""


def describe(control: ControlDatabase) -> None:
    """Two shards, three buckets on the first."""
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in ("one", "two"):
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", {"queries_per_s": 10.0}))
    topology.put_buckets(("b0", "b1", "b2"), Placement(dict.fromkeys(("b0", "b1", "b2"), "one")))


@pytest.fixture
def store(control: ControlDatabase) -> MigrationStore:
    describe(control)
    return MigrationStore(control)


@pytest.fixture
def lease(control: ControlDatabase, store: MigrationStore) -> Lease:
    return store.acquire(store.open(new_plan(control, "one", "two", ["b0", "b1"])), "runner", None, 60)


def test_revisions_make_what_the_models_say(control: ControlDatabase) -> None:
    control.migrate()
    assert control.revision()[0] == control.revision()[1]
    with control.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_two_processes_may_migrate_at_once(control_dsn: str) -> None:
    databases = [ControlDatabase(control_dsn) for _ in range(3)]
    threads = [Thread(target=database.migrate) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert databases[0].revision()[0] == databases[0].revision()[1]
    for database in databases:
        database.close()


def test_a_plan_has_one_migration_and_a_bucket_one_at_a_time(
    control: ControlDatabase, store: MigrationStore
) -> None:
    first = new_plan(control, "one", "two", ["b0", "b1"])
    assert store.open(first) == store.open(first)
    with pytest.raises(ForeshardError, match="another migration"):
        store.open(new_plan(control, "one", "two", ["b1", "b2"]))
    with pytest.raises(NotFound):
        store.open(999)


def test_the_routing_map_follows_a_migration_to_its_end(
    control: ControlDatabase, store: MigrationStore, lease: Lease
) -> None:
    topology = TopologyStore(control)
    before = topology.routing_map()
    store.set_routing(lease, bound=100, shadow_percent=5.0)
    during = topology.routing_map()
    assert during.epoch > before.epoch
    assert (during.redirections[0].bound, during.redirections[0].shadow_percent) == (100, 5.0)
    for stage in PATH[1:]:
        store.go_to(lease, stage)
    after = topology.routing_map()
    assert after.redirections == ()
    assert after.placement.buckets_on("two") == ("b0", "b1")
    with pytest.raises(IllegalTransition):
        store.go_to(lease, Stage.ABORTING)


def test_an_expired_lease_goes_to_the_next_and_the_first_writes_no_more(
    control: ControlDatabase, store: MigrationStore, lease: Lease
) -> None:
    with pytest.raises(LeaseLost):
        store.acquire(lease.migration, "second", None, 60)
    assert store.abandoned() == []
    with control.transaction() as session:
        session.connection().exec_driver_sql(
            "UPDATE migrations SET lease_expires_at = now() - interval '1 s'"
        )
    assert [one.id for one in store.abandoned()] == [lease.migration]
    second = store.acquire(lease.migration, "second", None, 60)
    for write in (
        lambda: store.renew(lease, 60),
        lambda: store.go_to(lease, Stage.PREPARE),
        lambda: store.set_routing(lease, bound=5),
        lambda: store.release(lease),
        lambda: FlipStore(control).intend(lease, 0, 5),
    ):
        with pytest.raises(LeaseLost):
            write()
    store.go_to(second, Stage.PREPARE)


def test_one_that_failed_is_left_to_people_unless_a_flip_is_unsettled(
    control: ControlDatabase, store: MigrationStore, lease: Lease
) -> None:
    intent = FlipStore(control).intend(lease, 0, 100)
    store.release(lease, failure="a shard went away")
    assert [one.id for one in store.abandoned()] == [lease.migration]
    again = store.acquire(lease.migration, "janitor", None, 60)
    FlipStore(control).record(again, intent.flip_no, "cancelled")
    store.release(again, failure="a shard went away")
    assert store.abandoned() == []


def test_who_waits_for_a_person_is_not_abandoned(store: MigrationStore, lease: Lease) -> None:
    store.release(lease, waiting_for="approval")
    assert store.abandoned() == []


def test_a_gate_counts_only_if_whole_passed_fresh_and_for_this_flip(
    control: ControlDatabase, lease: Lease
) -> None:
    flips = FlipStore(control)

    def gate(
        flip_no: int = 1,
        *,
        passed: bool = True,
        evaluated: int = 3,
        failed: int = 0,
        ttl_s: float = 60,
        age_s: float = 0,
    ) -> None:
        flips.record_gate(
            lease, "before_cutover", flip_no, passed=passed, evaluated=evaluated, expected=3, failed=failed,
            evidence_sha256="0", verdict={}, ttl_s=ttl_s, age_s=age_s,
        )  # fmt: skip

    def refused() -> bool:
        with pytest.raises(GateRefused):
            flips.require_gate(lease.migration, "before_cutover", 1)
        return True

    assert refused()
    gate(2)
    assert refused()
    gate()
    assert flips.require_gate(lease.migration, "before_cutover", 1).passed
    gate(passed=False, failed=1)
    assert refused()
    gate(evaluated=2)
    assert refused()
    gate(ttl_s=-1)
    assert refused()
    gate(ttl_s=60, age_s=61)  # its evidence was complete longer ago
    assert refused()
    gate(ttl_s=60, age_s=30)
    assert flips.require_gate(lease.migration, "before_cutover", 1).passed
    with pytest.raises(GateRefused):
        flips.require_gate(lease.migration, "after_cutover", 1)


def test_a_confirmation_is_final(control: ControlDatabase, store: MigrationStore, lease: Lease) -> None:
    store.confirm(lease, {"outcome": "done"})
    store.confirm(lease, {"outcome": "something else"})
    confirmation = store.confirmation(lease.migration)
    assert confirmation is not None
    assert confirmation["outcome"] == "done"
    for statement in (
        "UPDATE confirmations SET document = '{}'",
        "DELETE FROM confirmations",
        "TRUNCATE confirmations",
    ):
        with pytest.raises(DBAPIError, match="final"), control.transaction() as session:
            session.connection().exec_driver_sql(statement)


def test_the_database_refuses_states_that_do_not_exist(control: ControlDatabase, lease: Lease) -> None:
    for statement in (
        "UPDATE migrations SET stage = 'teleport'",
        "UPDATE migrations SET bound = 1025",
        "UPDATE migrations SET stage = 'done'",  # without an end
        "UPDATE plans SET state = 'lost'",
        "UPDATE migrations SET target = source",
    ):
        with pytest.raises(IntegrityError), control.transaction() as session:
            session.connection().exec_driver_sql(statement)
    assert lease.token == 1


def test_a_dsn_with_a_password_is_not_stored(control: ControlDatabase) -> None:
    for dsn in ("dbname=x password=secret", "postgresql://u:secret@h/db"):
        with pytest.raises(InvalidInput) as refused:
            TopologyStore(control).put_shard(ShardRecord("one", dsn, "dbname=x", {}))
        assert "secret" not in str(refused.value)


def test_the_shadow_role_is_a_name_or_none(control: ControlDatabase, store: MigrationStore) -> None:
    del store  # the fleet is described
    topology = TopologyStore(control)
    assert topology.shadow_role() is None
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"}, shadow_role='odd "role"')
    assert topology.shadow_role() == 'odd "role"'
    for wrong in ("", "a\0b", "é" * 32):
        with pytest.raises(InvalidInput, match="shadow_role"):
            topology.describe_fleet(KeyType.TEXT, {"things": "owner"}, shadow_role=wrong)


def test_samples_are_stored_once_and_read_as_hourly_means(control: ControlDatabase) -> None:
    loads = LoadStore(control)
    samples = [
        Sample(NOW + timedelta(minutes=minute), "one", "b0", "queries_per_s", float(minute))
        for minute in (0, 10, 40)
    ]
    assert loads.add(samples, "live") == 3
    assert loads.add([*samples, Sample(NOW, "one", None, "cpu_cores", 0.5)], "live") == 1
    hours = loads.bucket_series("queries_per_s", NOW - timedelta(hours=1), NOW + timedelta(hours=2))["b0"]
    assert hours.to_list() == [5.0, 40.0]
    assert [hour.hour for hour in hours.index] == [10, 11]
    assert loads.count_live(NOW - timedelta(minutes=1), NOW + timedelta(hours=1)) == 4
    present = loads.present(NOW + timedelta(minutes=12))
    assert present.buckets == {"b0": {"queries_per_s": 5.0}}
    assert present.shards == {"one": {"cpu_cores": 0.5}}


def test_a_negative_load_is_refused(control: ControlDatabase) -> None:
    with pytest.raises(Exception, match="ck_load_raw_amounts"):
        LoadStore(control).add([Sample(NOW, "one", "b0", "queries_per_s", -1.0)], "live")
    with pytest.raises(Exception, match="ck_load_raw_amounts"):
        LoadStore(control).add([Sample(NOW, "one", "b0", "queries_per_s", float("nan"))], "live")


def test_the_newest_progress_of_a_step_takes_the_place_of_the_one_before(
    control: ControlDatabase, store: MigrationStore, lease: Lease
) -> None:
    progress = ProgressStore(control)
    progress.keep(lease, "backfill", {"done": 1})
    progress.keep(lease, "verify", {"done": 5})
    progress.keep(lease, "backfill", {"done": 2})
    kept = progress.of(lease.migration)
    assert [(one.step, one.document) for one in kept] == [("verify", {"done": 5}), ("backfill", {"done": 2})]
    assert kept[0].updated_at < kept[1].updated_at
    store.release(lease)
    store.acquire(lease.migration, "another", None, 60)
    with pytest.raises(LeaseLost):
        progress.keep(lease, "backfill", {"done": 3})
    assert progress.of(lease.migration) == kept


def test_progress_never_stops_the_work(control: ControlDatabase, store: MigrationStore, lease: Lease) -> None:
    """Not when the control database refuses it, not when the lease is lost."""
    heard: list[Progress] = []
    progress = ProgressStore(control)
    with ProgressKeeper(progress, lease, "soak", heard.append) as report:
        report(Progress("rows", float("nan"), 2, "bytes"))  # JSON of PostgreSQL knows no NaN
    assert progress.of(lease.migration) == []
    with ProgressKeeper(progress, lease, "soak", heard.append) as report:
        report(Progress("rows", 1, 2, "bytes"))
        wait_until(lambda: progress.of(lease.migration) != [], "the first report, at once")
        report(Progress("rows", 2, 2, "bytes"))
    assert progress.of(lease.migration)[0].document["done"] == 2  # the last one, on leaving
    store.release(lease)
    store.acquire(lease.migration, "another", None, 60)
    with ProgressKeeper(progress, lease, "soak", heard.append) as report:
        report(Progress("rows", 0, 2, "bytes"))
    assert progress.of(lease.migration)[0].document["done"] == 2
    assert len(heard) == 4


def test_reports_between_two_writes_are_not_written(
    control: ControlDatabase, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    monkeypatch.setattr(ProgressStore, "keep", lambda *given: written.append(given[3]["done"]))
    with ProgressKeeper(ProgressStore(control), lease, "backfill", lambda _: None) as report:
        report(Progress("rows", 0, 1000, "bytes"))
        wait_until(lambda: written == [0], "the first report")
        for done in range(1, 1000):
            report(Progress("rows", done, 1000, "bytes"))
    assert written == [0, 999]


def test_a_rate_is_learnt_once_and_the_newest_of_each_pair_count(
    control: ControlDatabase, store: MigrationStore, lease: Lease
) -> None:
    rates = RateStore(control)
    rates.learn(lease, [Measured(RateKind.VERIFY, 10**9, 20.0), Measured(RateKind.INDEX, 10**9, 5.0)])
    rates.learn(lease, [Measured(RateKind.VERIFY, 10**9, 1.0)])  # a stage performed again
    found = {one.kind: one for one in rates.learnt().samples}
    assert (found[RateKind.VERIFY].seconds, found[RateKind.VERIFY].source) == (20.0, "one")
    assert rates.learnt().verify_bytes_per_s("one", "two", 1.0).value == pytest.approx(50e6)
    for stage in PATH[1:]:
        store.go_to(lease, stage)
    later = store.acquire(store.open(new_plan(control, "two", "one", ["b0"])), "runner", None, 60)
    rates.learn(later, [Measured(RateKind.VERIFY, 10**9, 40.0)])
    assert rates.learnt().verify_bytes_per_s("two", "one", 1.0).value == pytest.approx(25e6)
    store.release(later)
    store.acquire(later.migration, "another", None, 60)
    with pytest.raises(LeaseLost):
        rates.learn(later, [Measured(RateKind.INDEX, 10**9, 4.0)])


def test_pauses_are_learnt_from_the_flips_of_migrations_that_were_cut_over(
    control: ControlDatabase, store: MigrationStore, lease: Lease
) -> None:
    flips, rates = FlipStore(control), RateStore(control)

    def flip(lease: Lease, before: int, after: int, pause_ms: float | None, state: str = "opened") -> None:
        intent = flips.intend(lease, before, after)
        flips.record(lease, intent.flip_no, state, pause_ms=pause_ms)

    flip(lease, 0, 100, 20.0)
    flip(lease, 100, SLOTS, None, "cancelled")
    assert rates.learnt().pauses == ()
    flip(lease, 100, SLOTS, 30.0)
    flip(lease, SLOTS, 0, 500.0)  # reversed: not a flip that the next migration is to make
    (pause,) = rates.learnt().pauses
    assert (pause.source, pause.target, pause.seconds, pause.migration) == (
        "one",
        "two",
        0.05,
        lease.migration,
    )
    assert rates.learnt().pause_s("one", "two", 9.0).value == pytest.approx(0.05)
    for stage in PATH[1:]:
        store.go_to(lease, stage)
    later = store.acquire(store.open(new_plan(control, "two", "one", ["b0"])), "runner", None, 60)
    flip(later, 0, 100, None)  # found open after its runner had died
    flip(later, 100, SLOTS, 40.0)
    assert rates.learnt().pauses == (pause,)


def test_a_rate_that_is_none_is_refused(control: ControlDatabase, lease: Lease) -> None:
    wrong = [
        "'copy', 1, 1", "'verify', 0, 1", "'verify', -1, 1", "'verify', 1, 0", "'verify', 1, -1",
        "'verify', 1, 'NaN'", "'verify', 1, 'infinity'",
    ]  # fmt: skip
    for values in wrong:
        refused = pytest.raises(DBAPIError, match=r"ck_rates_|division by zero")
        with refused, control.transaction() as session:
            session.connection().exec_driver_sql(
                "INSERT INTO rates (migration_id, source, target, kind, bytes, seconds)"
                f" VALUES ({lease.migration}, 'one', 'two', {values})"
            )


def test_a_control_database_of_the_revision_before_keeps_what_is_in_it(control_dsn: str) -> None:
    """With a migration under way, whose plan was stored without a prediction."""
    config = Config()
    config.set_main_option("script_location", "foreshard:control/alembic")
    with closing(ControlDatabase(control_dsn)) as control:
        with control.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0004")
            connection.exec_driver_sql(FLEET_OF_0004)
        store = MigrationStore(control)
        plan = new_plan(control, "one", "two", ["b0"])
        with control.transaction() as session:  # not by the store: it asks for columns of today
            session.add(Migration(id=1, plan_id=plan, source="one", target="two"))
            session.flush()
            session.add(MigrationBucket(migration_id=1, bucket="b0"))
            session.connection().exec_driver_sql("UPDATE plans SET state = 'migrating'")
        lease = store.acquire(1, "runner", None, 60)
        before = store.get(lease.migration)
        control.migrate()
        assert control.revision()[0] == control.revision()[1] != "0004"
        topology = TopologyStore(control)
        assert topology.shadow_role() is None
        facts = {"published_epoch": topology.routing_epoch()}
        assert store.get(lease.migration) == replace(before, facts=facts)
        assert PlanStore(control).prediction(before.plan_id) is None
        ProgressStore(control).keep(lease, "backfill", {"done": 1})
        assert RateStore(control).learnt() == LearntRates()
