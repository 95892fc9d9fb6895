"""`foreshard doctor` on real servers with faults put in."""

from __future__ import annotations

import pytest

from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from tests.installation.conftest import Installation

pytestmark = pytest.mark.slow


def wrong(found: list[dict[str, str]]) -> list[str]:
    """What is wrong, with its remedy."""
    return [f"{one['what']} | {one['remedy']}" for one in found if one["severity"] == "wrong"]


def test_each_fault_is_found_and_named(installation: Installation) -> None:
    shard, other = installation.shards
    assert wrong(installation.doctor("--only", "shard-1")) == []
    with shard.connect() as conn:
        conn.execute("ALTER ROLE foreshard NOREPLICATION")
        conn.execute("REVOKE pg_create_subscription FROM foreshard")
        conn.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        conn.execute("DROP FUNCTION foreshard.rehearse_close")
    try:
        found = installation.doctor("--only", "shard-1")
    finally:
        with shard.connect() as conn:
            conn.execute("ALTER ROLE foreshard REPLICATION")
            conn.execute("GRANT pg_create_subscription TO foreshard")
            conn.execute("SELECT pg_drop_replication_slot('forgotten')")
        with connect(shard.operator_dsn) as conn:
            guard.install(conn)  # for the tests after this one: the installation is theirs too
    grants = "Run `foreshard grants --sql` there."
    assert f"shard-1: role lacks the attribute REPLICATION | {grants}" in wrong(found)
    assert f"shard-1: role lacks pg_create_subscription | {grants}" in wrong(found)
    warned = [one["what"] for one in found if one["severity"] == "warn"]
    assert any("slot forgotten is read by nobody" in what for what in warned)
    assert any("functions of another version in schema foreshard: rehearse_close" in what for what in warned)

    # wal_level needs a restart; another server does not answer meanwhile, and the first is looked at all the same.
    with other.connect() as conn:
        conn.execute("ALTER SYSTEM SET wal_level = replica")
    other.server.kill9()
    try:
        found = installation.doctor()
        assert any(one["check"] == "shard-2" and "does not answer" in one["what"] for one in found)
        assert [one for one in found if one["check"] == "shard-1"]
        other.server.start()
        assert any(
            "shard-2: wal_level is replica" in what
            for what in wrong(installation.doctor("--only", "shard-2"))
        )
    finally:
        other.server.start()
        with other.connect() as conn:
            conn.execute("ALTER SYSTEM RESET wal_level")
        other.server.kill9()
        other.server.start()


def test_prefect_away_is_one_finding_and_no_secret_is_shown(installation: Installation) -> None:
    said = installation.foreshard(
        "doctor",
        FORESHARD_PREFECT__API_URL="http://127.0.0.1:1/api",
        PREFECT_API_AUTH_STRING="admin:open-sesame",
    )
    assert said.returncode == 1
    assert "Prefect does not answer at http://127.0.0.1:1/api" in " ".join(said.stdout.split())
    assert "control database answers" in said.stdout
    assert "open-sesame" not in said.stdout + said.stderr
