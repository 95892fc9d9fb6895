"""Preflight: what would fail or harm is found before anything is created, and named.

Almost every hazard is made on one pair of servers, and preflight is run there once (hazard_cases.py). The others, which
would keep preflight from asking any further, have tests of their own. docs/preflight.md lists them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.conninfo import make_conninfo

from foreshard.errors import PreflightFailed
from foreshard.fleet.grants import OPERATOR
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.migration.preflight import findings, pair, server
from foreshard.migration.work import Work
from foreshard.postgres import guard, server_facts, standbys
from foreshard.postgres.catalog import read_sequences
from foreshard.postgres.connect import connect
from foreshard.postgres.guard import Side
from foreshard.postgres.hazards import Effect, Hazard
from foreshard.postgres.names import MigrationNames
from foreshard.postgres.pair import open_pair
from foreshard.postgres.server_facts import ServerFacts
from foreshard.settings import MigrationSettings
from foreshard.topology.keys import SLOTS, KeyType
from tests.integration.hazard_cases import HAZARDS
from tests.integration.hazard_fleet import (
    FINE,
    Found,
    PlainFleet,
    everything_wrong,
    findings_of,
    says,
    the_one,
)
from tests.integration.hazards_in_buckets import OBSTACLES
from tests.integration.moving_fleet import BUCKETS, MovingFleet, drop_pair, ignore, wait_until
from tests.integration.pooler import Pooler
from tests.integration.standby import standby_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What preflight says where everything is wrong."""
    return everything_wrong(servers, tmp_path_factory.mktemp("hazards"))


@pytest.fixture(scope="module")
def plain(servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainFleet]:
    """A fleet with nothing wrong; tests leave it so."""
    two = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    with closing(PlainFleet(two, servers.new_control_database(), tmp_path_factory.mktemp("plain"))) as moving:
        yield moving
    drop_pair(servers, two)


@pytest.fixture
def work(plain: PlainFleet) -> Iterator[Work]:
    """The migration of the plain fleet, at preflight."""
    with plain.runner() as runner:
        yield runner.work


@pytest.fixture
def facts(plain: PlainFleet) -> ServerFacts:
    """What the plain fleet's source is."""
    with connect(plain.pair.source.operator_dsn) as conn:
        return server_facts.read(conn, server.OLD_S)


@pytest.mark.parametrize("name", HAZARDS)
def test_a_hazard_is_found(found: Found, name: str) -> None:
    finding = the_one(found.findings, says(name, HAZARDS[name]))
    assert finding["blocking"] is HAZARDS[name].blocking
    assert finding["remedy"]


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_means_one_flip(found: Found, name: str) -> None:
    obstacles = [str(obstacle) for obstacle in found.obstacles]
    wanted = says(name, OBSTACLES[name]).replace(": ", " ")
    assert len([one for one in obstacles if wanted in one]) == 1, obstacles


def test_what_is_in_order_is_not_found(found: Found, work: Work) -> None:
    assert [one for one in found.findings if f"{FINE}." in one["subject"]] == []
    assert findings_of(work) == []


def test_what_blocks_comes_first(found: Found) -> None:
    blocking = [one["blocking"] for one in found.findings]
    assert blocking == sorted(blocking, reverse=True)


def test_what_many_buckets_have_in_common_is_said_once() -> None:
    hazards = [
        Hazard(bucket, "entry", f"{bucket}.entry", f"{bucket} is odd", "Mend it.", effect)
        for bucket in ("b1", "b2", "b3")
        for effect in (Effect.WARNS, Effect.WHOLE)
    ]
    hazards.append(Hazard("b2", "entry", "b2.entry", "is odder", "Mend it.", Effect.BLOCKS))
    assert findings.of_hazards(hazards) == [
        findings.Finding("b1.entry", "b1 is odd (also in b2, b3)", "Mend it.", blocking=False),
        findings.Finding("b2.entry", "is odder", "Mend it."),
    ]


def test_a_hazard_stops_the_migration_before_anything_is_made(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute("ALTER TABLE b0000.passenger_events DROP CONSTRAINT passenger_events_pkey")
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        with pytest.raises(PreflightFailed, match="no primary key") as refused:
            runner.perform(step, ignore)
    (journal,) = fleet.store.stage_runs(fleet.migration)
    assert journal.detail["findings"] == refused.value.details["findings"]
    assert fleet.store.get(fleet.migration).stage is Stage.PREFLIGHT
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []


def test_a_unique_key_without_the_distribution_column_means_one_flip(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute("CREATE UNIQUE INDEX ON b0000.passenger_events (event_id)")
    fleet.run_until(Stage.CUTOVER)
    assert fleet.flips.flips(fleet.migration) == []
    (obstacle,) = fleet.store.get(fleet.migration).facts["canary_obstacles"]
    assert "event_id" in obstacle
    with open_pair(fleet.pair.source.operator_dsn, fleet.pair.target.operator_dsn) as both:
        for each in read_sequences(both, BUCKETS):  # as the checks before the cutover read them
            assert (each.target or 0) > (each.source or 0), each
    fleet.run_until(None)
    assert [(f.from_bound, f.to_bound) for f in fleet.flips.flips(fleet.migration)] == [(0, SLOTS)]
    journal = {run.stage: run.detail for run in fleet.store.stage_runs(fleet.migration)}
    assert journal["preflight"]["canary_obstacles"] == [obstacle]
    confirmation = fleet.store.confirmation(fleet.migration)
    assert confirmation is not None
    assert confirmation["canary_obstacles"] == [obstacle]


@pytest.mark.parametrize("side", list(Side))
def test_rows_of_an_ended_migration_are_found_on_either_shard(
    plain: PlainFleet, work: Work, side: Side
) -> None:
    gone = MigrationNames("gone", 7)
    shard = plain.pair.source if side is Side.SOURCE else plain.pair.target
    with connect(shard.operator_dsn) as conn:
        guard.create_side(conn, gone, Side.SOURCE, "nobody", [FINE])
        try:
            finding = the_one(findings_of(work), "still belongs to foreshard_gone_7")
            assert finding["subject"] == f"{FINE} on {shard.name}"
            assert "foreshard janitor" in finding["remedy"]
            conn.execute("UPDATE foreshard.sides SET system_id = 1")
            restored = the_one(findings_of(work), "on a server with another system identifier")
            assert restored["blocking"]
        finally:
            guard.retire(conn, gone)


def test_standbys_and_what_became_of_them(servers: ThrowawayServers, work: Work) -> None:
    primary = servers.server("target")
    with standby_of(primary, "copy", slot=True) as standby:
        (replica,) = findings_of(work)
        assert replica["subject"] == "target: standby copy"
        assert "sees the move with its delay" in replica["why"]
        assert not replica["blocking"]
        with standby.connect() as conn, primary.connect() as there:
            conn.execute("ALTER SYSTEM SET primary_slot_name = ''")
            conn.execute("SELECT pg_reload_conf()")
            wait_until(lambda: standbys.unwatched(there) == ["copy"], "it streams without its slot")
            there.execute("SELECT pg_drop_replication_slot('copy')")
        unwatched = the_one(findings_of(work), "target: standby copy: streams without a replication slot")
        assert unwatched["blocking"]
        here = work.target
        work.target = replace(here, dsn=make_conninfo(here.dsn, port=standby.port))
        (leads,) = findings_of(work)
        assert (leads["why"], leads["blocking"]) == ("leads to a standby", True)
        standby.promote()
        work.source = replace(work.source, dsn=here.dsn)
        clone = the_one(findings_of(work), "are a server and a copy of it")
        assert clone["blocking"]


def test_two_databases_of_one_cluster_are_two_shards(
    servers: ThrowawayServers, plain: PlainFleet, work: Work
) -> None:
    beside: ShardDatabase = servers.new_shard("source")
    with connect(beside.operator_dsn) as conn:
        guard.install(conn)
    work.target = replace(work.target, dsn=beside.operator_dsn)
    assert findings_of(work) == []
    work.target = replace(work.target, dsn=plain.pair.source.operator_dsn)
    same = the_one(findings_of(work), f"are the same database, {plain.pair.source.database}")
    assert same["blocking"]
    servers.drop("source", beside.database)


@pytest.mark.parametrize(
    ("own_pid", "why"),
    [(True, "leads to a pooler"), (False, "drops the settings of our session")],
)
def test_a_pooler_is_not_the_server(work: Work, own_pid: bool, why: str) -> None:
    here = work.target
    with Pooler(here.dsn, own_pid=own_pid) as pooler:
        work.target = replace(here, dsn=pooler.dsn)
        (finding,) = findings_of(work)
    assert finding["subject"] == "target: DSN"
    assert why in finding["why"]
    assert finding["blocking"]


@pytest.mark.parametrize(
    ("taken", "given", "why"),
    [
        (
            f"REVOKE pg_read_all_stats FROM {OPERATOR}",
            f"GRANT pg_read_all_stats TO {OPERATOR}",
            "lacks pg_read_all_stats",
        ),
        (
            "ALTER SCHEMA foreshard OWNER TO postgres",
            f"ALTER SCHEMA foreshard OWNER TO {OPERATOR}",
            "is not there or not ours",
        ),
    ],
)
def test_without_the_grants_nothing_else_is_asked(
    plain: PlainFleet, work: Work, taken: str, given: str, why: str
) -> None:
    with plain.pair.target.connect() as conn:
        conn.execute(taken.encode())
        try:
            (finding,) = findings_of(work)
        finally:
            conn.execute(given.encode())
    assert why in finding["why"]
    assert "grants --sql" in finding["remedy"]


def test_old_transactions_of_the_whole_cluster_are_named(
    plain: PlainFleet, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "OLD_S", 0.0)
    with plain.pair.source.server.connect() as other, plain.pair.source.server.connect() as conn:
        conn.execute("BEGIN; CREATE TABLE held (); PREPARE TRANSACTION 'elsewhere'")
        try:
            other.execute("BEGIN")
            other.execute("SELECT pg_current_xact_id()")
            process = f"transaction of process {other.info.backend_pid} in database postgres"
            old = findings_of(work)
            for what in ("prepared transaction elsewhere of database postgres", process):
                finding = the_one(old, f"source: {what}: is open for more than")
                assert not finding["blocking"]
        finally:
            conn.execute("ROLLBACK PREPARED 'elsewhere'")


def test_a_clock_that_differs_is_a_warning(plain: PlainFleet) -> None:
    with connect(plain.pair.source.operator_dsn) as conn:
        right = server_facts.clock_offset(conn)
        ahead = server_facts.clock_offset(conn, lambda: datetime.now(UTC) + timedelta(seconds=5))
    assert pair.clocks({"right": right}) == []
    (finding,) = pair.clocks({"right": right, "behind": ahead})
    assert (finding.subject, finding.blocking) == ("behind: clock", False)
    assert "is -5.0 s from ours" in finding.why


LIMITS = {
    "old": ({"version": 150004}, "is older than PostgreSQL 16", True),
    "new": ({"version": 190000}, "is PostgreSQL 19; Foreshard is tested up to 18", False),
    "slots time out": ({"idle_timeout_s": 600.0}, "is 600 s: a stream that is cut off", False),
    "few origins": ({"free_origins": 1}, "leaves 1 free of 2 needed", True),
    "few origins of 18": ({"version": 180000, "free_origins": 1}, "leaves 1 free of 2 needed", True),
    "few workers": ({"free_workers": 3}, "leaves 3 free of 5: fewer tables are copied", False),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_that_this_server_has_not(facts: ServerFacts, limit: str) -> None:
    changes, why, blocking = LIMITS[limit]
    settings = MigrationSettings()
    assert list(server.limits("s", Side.TARGET, facts, settings)) == []
    (finding,) = server.limits("s", Side.TARGET, replace(facts, **changes), settings)
    assert why in finding.why
    assert finding.blocking is blocking


def test_what_two_databases_must_agree_about(facts: ServerFacts) -> None:
    assert list(pair.agreement({"a": facts, "b": facts}, KeyType.TEXT)) == []
    other = replace(facts, collation_version="2.36")
    (finding,) = pair.agreement({"a": facts, "b": other}, KeyType.TEXT)
    assert (finding.subject, finding.blocking) == ("version of the default collation", False)
    assert "none on a and 2.36 on b" in finding.why
    latin = replace(facts, encoding="LATIN1")
    assert list(pair.agreement({"a": latin, "b": latin}, KeyType.INT8)) == []
    (finding,) = pair.agreement({"a": latin, "b": latin}, KeyType.TEXT)
    assert finding.why == "is not UTF8"


def test_ddl_on_a_moving_bucket_stops_the_migration(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.VERIFY)
    with fleet.pair.source.connect() as conn:
        conn.execute("ALTER TABLE b0000.aircraft ADD COLUMN nickname text")
    with fleet.runner() as runner, pytest.raises(Exception, match="was changed while it moves"):
        fleet.run_until(None, runner)
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert fleet.leftovers() == []
