"""`verify` on real servers: a difference after the cutover holds finalise back; a bucket at rest is looked over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.verification_store import VerificationRecord, VerificationStore
from foreshard.errors import InvalidInput, NotFound, VerificationFailed
from foreshard.migration import verification
from foreshard.migration.lifecycle import Stage
from foreshard.migration.stages import finalise
from foreshard.postgres import subscriptions
from foreshard.postgres.names import GUARD_TRIGGER
from foreshard.postgres.pair import pinned_session
from tests.integration.moving_fleet import BUCKETS, MovingFleet, ignore
from tests.unseen_session import unseen

FLIGHTS = sql.Identifier(BUCKETS[0], "flights")


@pytest.fixture
def run(fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """A command in this process, on the fleet: its exit code and its output."""
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", str(fleet.settings.control.dsn))
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(fleet.state_dir))
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)

    def command(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        return result.exit_code, result.stdout

    return command


def verify(fleet: MovingFleet, bucket: str | None = None) -> VerificationRecord:
    return verification.verify_migration(fleet.control, fleet.settings, fleet.migration, "Ada", bucket=bucket)


def test_a_difference_after_the_cutover_holds_finalise_back(
    fleet: MovingFleet, run: Callable[..., tuple[int, str]]
) -> None:
    assert verification.standing(fleet.control) == []
    assert run("verify") == (
        0,
        "No migration stands between its cutover and finalise: there is nothing to verify.\n",
    )
    assert run("check", "diff", fleet.migration)[0] == 2  # no two copies yet: not the code of a difference
    fleet.run_until(Stage.SOAK)
    assert [one.id for one in verification.standing(fleet.control)] == [fleet.migration]
    good = verify(fleet)
    assert (good.passed, good.findings, good.migration) == (True, [], fleet.migration)
    assert good.seen["rows"] > 0
    number = fleet.migration

    with unseen(fleet.pair.source) as conn:  # the copy that the way back would need
        row = conn.execute(
            sql.SQL(
                "DELETE FROM {0} WHERE flight_id = (SELECT max(flight_id) FROM {0}) RETURNING flight_id, tailnum"
            ).format(FLIGHTS)
        ).fetchone()
    assert row is not None
    code, output = run("verify", number, "--json")
    (told,) = json.loads(output)
    assert (code, told["passed"], len(told["findings"])) == (1, False, 1)
    (finding,) = told["findings"]
    assert (finding["table"], finding["kind"], finding["owner"]) == (
        "flights",
        "missing",
        fleet.pair.target.name,
    )
    assert str(row[0]) in finding["key"]
    assert json.loads(run("migration", "show", number, "--json")[1])["verifications"][0]["id"] == told["id"]

    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        with pytest.raises(VerificationFailed) as held:
            runner.perform(step, ignore)
        with pytest.raises(VerificationFailed):
            finalise.run(runner.work, ignore)
    assert all(
        word in str(held.value) for word in ("check diff", "check repair", "foreshard verify", "reverse")
    )
    assert fleet.store.get(number).stage is Stage.SOAK

    assert verify(fleet, BUCKETS[1]).passed  # of another bucket: it says nothing of this one
    fleet.pair.target.server.kill9()
    try:
        none = verify(fleet)
        assert (none.passed, none.finished_at) == (None, None)
        assert "does not answer" in str(none.problem)
        assert run("verify", number)[0] == 2
    finally:
        fleet.pair.target.server.start()
    store = VerificationStore(fleet.control)
    failed = store.failed(number)
    assert failed is not None  # no verdict opens nothing
    assert failed.id == told["id"]

    code, output = run("check", "diff", number, "--table", "flights", "--values")
    assert code == 1
    assert "1 row(s) differ" in output
    assert "missing" in output
    assert str(row[1]) in output
    code, output = run("check", "repair", number, "--as", "Ada", "--dry-run", "--json")
    assert (code, json.loads(output)["differing"]) == (1, 1)
    assert run("check", "diff", number)[0] == 1  # nothing was written
    assert run("check", "repair", number, "--as", "Ada", "--json")[0] == 2  # it cannot ask
    code, output = run("check", "repair", number, "--as", "Ada", "--yes", "--json")
    document = json.loads(output)
    assert (code, document["outcomes"], document["still"]["equal"]) == (0, {"inserted": 1}, True)
    assert store.failed(number) is not None  # a repair is no verdict
    assert run("verify", number)[0] == 0
    assert store.failed(number) is None
    fleet.run_until(None)
    assert fleet.store.get(number).stage is Stage.DONE


@pytest.mark.slow
def test_a_word_without_a_way_back_needs_one_more(
    fleet: MovingFleet, run: Callable[..., tuple[int, str]]
) -> None:
    """Nobody can verify any more once the reverse stream is lost: a failure must not stand for ever."""
    fleet.run_until(Stage.SOAK)
    store = VerificationStore(fleet.control)
    store.finish(store.begin(fleet.migration, None, "Ada"), [{"what": "something"}], {})
    with fleet.runner() as runner:
        names = runner.work.names
    with fleet.pair.source.connect() as conn:
        subscriptions.unsubscribe(conn, names.reverse, publisher_gone=True)
    with fleet.pair.target.connect() as conn:
        conn.execute("SELECT pg_drop_replication_slot(%s)", (names.reverse,))
    words = ("finalise", fleet.migration, "--without-way-back", "--as", "Ada")
    assert run(*words)[0] == 1
    assert fleet.store.get(fleet.migration).stage is Stage.SOAK
    assert run(*words, "--despite-differences")[0] == 0
    assert fleet.store.get(fleet.migration).stage is Stage.DONE


@pytest.mark.slow
def test_what_compares_does_not_keep_a_copy_from_being_dropped(fleet: MovingFleet) -> None:
    """A large table is read for minutes; finalise ends that."""
    fleet.run_until(Stage.FINALISE)
    with (
        pinned_session(fleet.pair.source.operator_dsn) as reading,
        pinned_session(fleet.pair.source.operator_dsn) as idle,
    ):
        reading.execute("BEGIN")
        reading.execute(sql.SQL("SELECT count(*) FROM {}").format(FLIGHTS))
        fleet.run_until(None)
        with pytest.raises(psycopg.OperationalError):
            reading.execute("SELECT 1")
        assert idle.execute("SELECT 1").fetchone() == (1,)
    assert fleet.store.get(fleet.migration).stage is Stage.DONE


AILMENTS = {
    "index flights_pkey is INVALID": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'b0000.flights_pkey'::regclass",
        "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'b0000.flights_pkey'::regclass",
    ),
    "constraint aircraft.seated is NOT VALID": (
        "ALTER TABLE b0000.aircraft ADD CONSTRAINT seated CHECK (seats > 0) NOT VALID",
        "ALTER TABLE b0000.aircraft DROP CONSTRAINT seated",
    ),
    "trigger aircraft.quiet is disabled": (
        "CREATE TRIGGER quiet BEFORE UPDATE ON b0000.aircraft FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger();"
        " ALTER TABLE b0000.aircraft DISABLE TRIGGER quiet",
        "DROP TRIGGER quiet ON b0000.aircraft",
    ),
    "behind flights.flight_id": (
        "SELECT setval('b0000.flights_flight_id_seq', 1)",
        "SELECT setval('b0000.flights_flight_id_seq', (SELECT max(flight_id) FROM b0000.flights))",
    ),
    f"trigger aircraft.{GUARD_TRIGGER} is a guard": (
        f"CREATE TRIGGER {GUARD_TRIGGER} BEFORE UPDATE ON b0000.aircraft FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        f"DROP TRIGGER {GUARD_TRIGGER} ON b0000.aircraft",
    ),
    "publication foreshard_other_7 of an ended migration": (
        "CREATE PUBLICATION foreshard_other_7 FOR TABLE b0000.aircraft",
        "DROP PUBLICATION foreshard_other_7",
    ),
}


def test_a_bucket_at_rest_is_looked_over(fleet: MovingFleet, run: Callable[..., tuple[int, str]]) -> None:
    def look(bucket: str = "b0000") -> list[str]:
        record = verification.verify_bucket(fleet.control, fleet.settings, bucket, "Ada")
        assert record.passed is (not record.findings)
        assert (record.migration, record.bucket) == (None, bucket)
        return [one["what"] for one in record.findings]

    assert look() == []  # its migration has made nothing yet
    fleet.run_until(Stage.BACKFILL)
    assert look() == []  # guards, publication, and a copy that is not complete
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert look() == []
    source, target = fleet.pair.source, fleet.pair.target
    with source.connect() as conn:
        for words, (make, mend) in AILMENTS.items():
            conn.execute(make.encode())
            (found,) = look()
            assert words in found, found
            assert found.startswith(f"b0000 on {source.name}: ")
            conn.execute(mend.encode())
    with target.connect() as conn:
        conn.execute("CREATE SCHEMA b0000")
    assert look() == [f"b0000 on {target.name}: a stray copy: the routing map says {source.name}"]
    code, output = run("verify", "--bucket", "b0000")
    assert code == 1
    assert "a stray copy" in output
    with target.connect() as conn:
        conn.execute("DROP SCHEMA b0000")
    assert run("verify", "--bucket", "b0000")[0] == 0
    assert look("b0002") == [f"b0002 on {source.name}: it is not there, where the routing map says"]
    with pytest.raises(NotFound, match="no bucket b9999"):
        look("b9999")


@pytest.fixture
def store(control: ControlDatabase) -> tuple[VerificationStore, int]:
    from foreshard.control.migration_store import MigrationStore
    from tests.integration.test_control import describe
    from tests.plans import new_plan

    describe(control)
    return (
        VerificationStore(control),
        MigrationStore(control).open(new_plan(control, "one", "two", ["b0", "b1"])),
    )


def test_which_verification_stands(store: tuple[VerificationStore, int]) -> None:
    verifications, number = store

    def made(passed: bool, bucket: str | None = None) -> int:
        findings: list[dict[str, Any]] = [] if passed else [{"what": "x"}]
        return verifications.finish(verifications.begin(number, bucket, "Ada"), findings, {}).id

    def stands() -> int | None:
        failed = verifications.failed(number)
        return None if failed is None else failed.id

    assert stands() is None
    made(True)
    assert stands() is None
    whole = made(False)
    assert stands() == whole
    made(True, "b0")
    assert stands() == whole  # one bucket does not speak for the other
    late = verifications.begin(number, None, "Ada")
    assert stands() == whole  # not finished
    made(True)
    assert stands() is None
    verifications.finish(late, [{"what": "seen before that"}], {})
    assert stands() is None  # it began earlier than the one that passed
    part = made(False, "b0")
    made(True, "b1")
    assert stands() == part
    made(True, "b0")
    assert stands() is None
    verifications.give_up(verifications.begin(number, None, "Ada"), "away")
    assert stands() is None
    with pytest.raises(Exception, match="neither changed nor deleted"):
        verifications.give_up(part, "changed")


def test_a_bucket_of_another_migration_is_refused(copied_fleet: MovingFleet) -> None:
    with pytest.raises(InvalidInput, match="'b0005' is not of this migration"):
        verify(copied_fleet, "b0005")
