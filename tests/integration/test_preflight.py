"""Preflight: what would fail or harm is found before anything is created, and named."""

from __future__ import annotations

import pytest

from foreshard.errors import PreflightFailed
from foreshard.fleet.grants import OWNER
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import guard
from foreshard.postgres.catalog import read_sequences
from foreshard.postgres.connect import connect
from foreshard.postgres.names import MigrationNames
from foreshard.postgres.pair import open_pair
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import BUCKETS, MovingFleet, ignore

pytestmark = pytest.mark.slow

HAZARDS = {
    "no primary key": (
        "ALTER TABLE b0000.passenger_events DROP CONSTRAINT passenger_events_pkey",
        "no primary key",
    ),
    "unlogged": ("ALTER TABLE b0001.passenger_events SET UNLOGGED", "unlogged"),
    "forced row security": (
        "ALTER TABLE b0001.aircraft FORCE ROW LEVEL SECURITY",
        "FORCE ROW LEVEL SECURITY",
    ),
    "a nullable key": (
        "ALTER TABLE b0000.passenger_events DROP CONSTRAINT passenger_events_pkey,"
        " ALTER COLUMN tailnum DROP NOT NULL, ADD PRIMARY KEY (event_id)",
        "NOT NULL",
    ),
    "a trigger that would run twice": (
        "CREATE TRIGGER twice BEFORE UPDATE ON b0000.flights FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger();"
        " ALTER TABLE b0000.flights ENABLE ALWAYS TRIGGER twice",
        "run twice",
    ),
    "an unknown table": ("CREATE TABLE b0000.stray (id int PRIMARY KEY)", "fleet's description"),
    "a table of somebody else": (
        "ALTER TABLE b0001.passenger_events OWNER TO postgres",
        "belongs to postgres",
    ),
    "a materialised view": ("CREATE MATERIALIZED VIEW b0000.sums AS SELECT 1 AS one", "materialised view"),
    "a deferrable primary key": (
        "ALTER TABLE b0000.passenger_events DROP CONSTRAINT passenger_events_pkey,"
        " ADD PRIMARY KEY (tailnum, event_id) DEFERRABLE",
        "no primary key",
    ),
    "another replica identity": (
        "CREATE UNIQUE INDEX other ON b0001.passenger_events (event_id, tailnum);"
        " ALTER TABLE b0001.passenger_events REPLICA IDENTITY USING INDEX other",
        "REPLICA IDENTITY USING INDEX",
    ),
    "no replica identity": (
        "ALTER TABLE b0001.passenger_events REPLICA IDENTITY NOTHING",
        "IDENTITY NOTHING",
    ),
    "a key whose equal values hash apart": (
        # By hand, since not every build has ICU, and no other provider has such collations.
        'CREATE COLLATION b0000.whatever FROM "C";'
        " ALTER TABLE b0000.flights ALTER COLUMN tailnum TYPE text COLLATE b0000.whatever;"
        " UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'whatever'",
        "deterministic collation",
    ),
    "an inherited table": (
        "CREATE TABLE b0000.heirs (PRIMARY KEY (tailnum)) INHERITS (b0000.aircraft)",
        "inherits",
    ),
    "a rule": (
        "CREATE RULE twice AS ON DELETE TO b0000.flights DO ALSO NOTHING",
        "rewrites statements",
    ),
    "a sequence outside the bucket": (
        "CREATE SEQUENCE public.numbers;"
        " ALTER TABLE b0000.aircraft ALTER COLUMN seats SET DEFAULT nextval('public.numbers')",
        "outside its bucket",
    ),
    "a sequence at its end": (
        f"SET ROLE {OWNER}; CREATE SEQUENCE b0001.few AS int; SELECT setval('b0001.few', 2147483000)",
        "647 values left",
    ),
    "a wide sequence that feeds a narrow column": (
        f"SET ROLE {OWNER}; CREATE SEQUENCE b0001.wide;"
        " ALTER TABLE b0001.aircraft ALTER year SET DEFAULT nextval('b0001.wide');"
        " SELECT setval('b0001.wide', 2147483000)",
        "647 values left",
    ),
    "a descending sequence at its end": (
        f"SET ROLE {OWNER}; CREATE SEQUENCE b0001.down INCREMENT -10 MINVALUE -10000 START -1;"
        " SELECT setval('b0001.down', -9900)",
        "has 10 values left",
    ),
}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_a_hazard_stops_the_migration_before_anything_is_made(fleet: MovingFleet, hazard: str) -> None:
    statement, named = HAZARDS[hazard]
    with fleet.pair.source.connect() as conn:
        conn.execute(statement.encode())
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        with pytest.raises(PreflightFailed) as refused:
            runner.perform(step, ignore)
    findings = refused.value.details["findings"]
    assert any(named in f"{finding['why']} {finding['remedy']}" for finding in findings), findings
    assert fleet.store.get(fleet.migration).stage is Stage.PREFLIGHT
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []


def test_a_copy_of_somebody_else_is_not_touched(fleet: MovingFleet) -> None:
    with fleet.pair.target.connect() as conn:
        conn.execute("CREATE SCHEMA b0000")
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        with pytest.raises(PreflightFailed, match="exists there already"):
            runner.perform(step, ignore)
    assert fleet.schemas(fleet.pair.target) == ["b0000"]


def test_a_unique_key_without_the_distribution_column_means_one_flip(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute("CREATE UNIQUE INDEX ON b0000.passenger_events (event_id)")
    fleet.run_until(Stage.CUTOVER)
    assert fleet.flips.flips(fleet.migration) == []
    (obstacle,) = fleet.store.get(fleet.migration).facts["canary_obstacles"]
    assert "event_id" in obstacle
    with open_pair(fleet.pair.source.operator_dsn, fleet.pair.target.operator_dsn) as pair:
        for each in read_sequences(pair, BUCKETS):  # as the checks before the cutover read them
            assert (each.target or 0) > (each.source or 0), each
    fleet.run_until(None)
    assert [(f.from_bound, f.to_bound) for f in fleet.flips.flips(fleet.migration)] == [(0, SLOTS)]
    journal = {run.stage: run.detail for run in fleet.store.stage_runs(fleet.migration)}
    assert journal["preflight"]["canary_obstacles"] == [obstacle]
    confirmation = fleet.store.confirmation(fleet.migration)
    assert confirmation is not None
    assert confirmation["canary_obstacles"] == [obstacle]


SHARED_BY_NONE = {
    "it cycles": ("CREATE SEQUENCE b0000.round MAXVALUE 1000 CYCLE", "cycles"),
    "it lacks room": ("CREATE SEQUENCE b0000.few MAXVALUE 3000000", "wider type"),
    "it lacks room downwards": (
        "CREATE SEQUENCE b0000.down INCREMENT -2 MINVALUE -6000000 START -1",
        "wider type",
    ),
}


@pytest.mark.parametrize("why", SHARED_BY_NONE)
def test_a_sequence_that_two_sides_cannot_share_means_one_flip(fleet: MovingFleet, why: str) -> None:
    statement, named = SHARED_BY_NONE[why]
    with fleet.pair.source.connect() as conn:
        conn.execute(f"SET ROLE {OWNER}".encode())
        conn.execute(statement.encode())
        conn.execute("CREATE SEQUENCE b0001.roomy INCREMENT -1")
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        runner.perform(step, ignore)
    (obstacle,) = fleet.store.get(fleet.migration).facts["canary_obstacles"]
    assert named in obstacle
    (journal,) = fleet.store.stage_runs(fleet.migration)
    assert journal.detail["canary_obstacles"] == [obstacle]


def test_an_identity_column_that_two_sides_cannot_share_means_one_flip(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute("ALTER TABLE b0000.passenger_events ALTER event_id SET MAXVALUE 2000000")
    fleet.run_until(Stage.PREPARE)
    (obstacle,) = fleet.store.get(fleet.migration).facts["canary_obstacles"]
    assert "passenger_events_event_id_seq" in obstacle


@pytest.mark.parametrize("side", ["source", "target"])
def test_rows_of_an_ended_migration_are_found_on_either_shard(fleet: MovingFleet, side: str) -> None:
    shard = getattr(fleet.pair, side)
    with connect(shard.operator_dsn) as conn:
        guard.create_side(conn, MigrationNames("gone", 7), guard.Side.SOURCE, "nobody", ["b0001"])
    finding = refusal(fleet, "still belongs to foreshard_gone_7")
    assert finding["subject"] == f"b0001 on {shard.name}"
    assert "foreshard janitor" in finding["remedy"]


def test_a_prepared_transaction_is_named(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute("BEGIN; CREATE TABLE public.held (); PREPARE TRANSACTION 'theirs'")
    assert refusal(fleet, "hold the fence")["subject"].endswith("prepared transaction theirs")


def test_a_subscription_that_feeds_a_bucket_is_named(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute(
            "CREATE SUBSCRIPTION theirs CONNECTION 'host=nowhere' PUBLICATION p"
            " WITH (connect = false, slot_name = NONE)"
        )
        conn.execute(  # as REFRESH would have it, if there were a publisher
            "INSERT INTO pg_subscription_rel SELECT s.oid, 'b0000.aircraft'::regclass, 'r', NULL"
            "  FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
            " WHERE subname = 'theirs' AND datname = current_database()"
        )
    assert refusal(fleet, "feeds this bucket")["subject"] == "subscription theirs"


def test_databases_of_different_encodings_are_refused(fleet: MovingFleet) -> None:
    with fleet.pair.target.server.connect() as conn:  # what an administrator may not, a test may
        conn.execute(
            "UPDATE pg_database SET encoding = pg_char_to_encoding('LATIN1') WHERE datname = %s",
            (fleet.pair.target.database,),
        )
    assert "LATIN1 on target" in refusal(fleet, "LATIN1")["why"]


def test_a_trigger_that_may_write_anywhere_is_a_warning(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute(
            "CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
            "CREATE TRIGGER tell AFTER INSERT ON b0000.flights FOR EACH ROW EXECUTE FUNCTION public.tell();"
            "CREATE TRIGGER own BEFORE UPDATE ON b0000.flights FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )
    fleet.run_until(Stage.PREPARE)
    (finding,) = fleet.store.stage_runs(fleet.migration)[0].detail["findings"]
    assert (finding["subject"], finding["blocking"]) == ("b0000.flights: trigger tell", False)
    assert "tell()" in finding["why"]


def refusal(fleet: MovingFleet, named: str) -> dict[str, str]:
    """The one finding of a refused preflight that says so."""
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        with pytest.raises(PreflightFailed) as refused:
            runner.perform(step, ignore)
    (finding,) = [found for found in refused.value.details["findings"] if named in found["why"]]
    assert isinstance(finding, dict)
    return finding


def test_ddl_on_a_moving_bucket_stops_the_migration(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.VERIFY)
    with fleet.pair.source.connect() as conn:
        conn.execute("ALTER TABLE b0000.aircraft ADD COLUMN nickname text")
    with fleet.runner() as runner, pytest.raises(Exception, match="was changed while it moves"):
        fleet.run_until(None, runner)
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert fleet.leftovers() == []
