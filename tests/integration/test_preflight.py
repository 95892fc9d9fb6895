"""Preflight: what would fail or harm is found before anything is created, and named."""

from __future__ import annotations

import pytest

from foreshard.errors import PreflightFailed
from foreshard.migration.lifecycle import Stage
from tests.integration.moving_fleet import MovingFleet, ignore

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
    "a materialised view": ("CREATE MATERIALIZED VIEW b0000.sums AS SELECT 1 AS one", "materialised view"),
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


def test_ddl_on_a_moving_bucket_stops_the_migration(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.VERIFY)
    with fleet.pair.source.connect() as conn:
        conn.execute("ALTER TABLE b0000.aircraft ADD COLUMN nickname text")
    with fleet.runner() as runner, pytest.raises(Exception, match="was changed while it moves"):
        fleet.run_until(None, runner)
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert fleet.leftovers() == []
