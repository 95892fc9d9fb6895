"""A bucket with everything: after the copy, after the migration and after a reversal its catalog is what it was."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from pathlib import Path

import psycopg
import pytest

from foreshard.fleet.binaries import find_binaries
from foreshard.fleet.grants import APPLICATION, SHADOW
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.migration.lifecycle import Stage
from foreshard.topology.keys import KeyType
from tests.integration.moving_fleet import MovingFleet, ignore
from tests.integration.test_partitioned_tables import Checkpoint, assert_equal_copies, checks_pass

pytestmark = pytest.mark.slow

BUCKET = "everything"
TABLES = {
    "account": "tenant", "entry": "tenant", "booking": "tenant", "measure": "tenant", "visit": "tenant",
    "odd": "tenant",
}  # fmt: skip

DEFINITION = Path(__file__).with_name("everything.sql")

WRITES = """
UPDATE everything.account SET moods = array_append(moods, 'sad'), lives = ROW('moved', 'happy', now());
UPDATE everything.measure SET at = at + 60 WHERE tenant = 't3' AND NOT EXISTS
    (SELECT FROM everything.visit v WHERE v.tenant = measure.tenant);
INSERT INTO everything.account (tenant, email) VALUES ('new ' || {number}, 'new@example');
INSERT INTO everything.measure (tenant, at) VALUES ('t4', date '2020-01-01' + {number});
INSERT INTO everything.measure (tenant, at) VALUES ('t4', date '2030-01-01' + {number});
DELETE FROM everything.odd WHERE a = {number};
"""


class Everything(MovingFleet):
    """A fleet of that one bucket."""

    key_type = KeyType.TEXT
    tables: Mapping[str, str] = TABLES
    all_buckets: Sequence[str] = (BUCKET,)
    buckets: Sequence[str] = (BUCKET,)

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        conn.execute(DEFINITION.read_bytes())


@pytest.fixture
def fleet(shard_pair: ShardPair, control_dsn: str, tmp_path: Path) -> Iterator[MovingFleet]:
    moving = Everything(shard_pair, control_dsn, tmp_path)
    yield moving
    moving.close()


def definition(shard: ShardDatabase) -> list[str]:
    """pg_dump of the bucket's definition, sorted by statements; without Foreshard's guards."""
    dumped = subprocess.run(
        [
            *(str(find_binaries().tool("pg_dump")), "--schema-only", "--no-publications", "--no-subscriptions"),
            *(f"--schema={BUCKET}", f"--dbname={shard.superuser_dsn}"),
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = [
        line
        for line in dumped.splitlines()
        if not line.startswith(("--", "\\")) and "zz_foreshard" not in line and line.strip()
    ]
    return sorted(re.split(r"(?<=;)\n", "\n".join(lines)))


def assert_same(then: list[str], now: list[str]) -> None:
    assert len(then) > 100
    assert "\n".join(unified_diff(then, now, "before", "after", n=0, lineterm="")) == ""


def write(shard: ShardDatabase, number: int) -> None:
    with shard.connect() as conn, conn.transaction():
        conn.execute(WRITES.format(number=number).encode())


def test_the_copy_is_defined_as_the_original(fleet: MovingFleet, tmp_path: Path) -> None:
    before = definition(fleet.pair.source)
    with fleet.runner() as runner:
        checks_pass(runner, tmp_path, Checkpoint.BEFORE_COPY)
    fleet.run_until(Stage.CATCH_UP)
    # The copy is closed to the application, and open to shadow reads, until it serves.
    closed = {
        f"GRANT USAGE ON SCHEMA {BUCKET} TO {APPLICATION};": f"GRANT USAGE ON SCHEMA {BUCKET} TO {SHADOW};"
    }
    assert_same(sorted(closed.get(one, one) for one in before), definition(fleet.pair.target))
    write(fleet.pair.source, 1)
    fleet.run_until(Stage.WRITE_REDIRECT)
    write(fleet.pair.source, 2)
    fleet.run_until(Stage.CUTOVER)
    with fleet.runner() as runner:
        checks_pass(runner, tmp_path, Checkpoint.BEFORE_CUTOVER)
    fleet.run_until(Stage.FINALISE)
    write(fleet.pair.target, 3)
    with fleet.runner() as runner:
        assert_equal_copies(runner)
    fleet.run_until(None)
    assert_same(before, definition(fleet.pair.target))
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.source) == []


def test_a_reversal_leaves_the_original_as_it_was(fleet: MovingFleet) -> None:
    before = definition(fleet.pair.source)
    fleet.run_until(Stage.SOAK)
    write(fleet.pair.target, 1)
    with fleet.runner() as runner:
        runner.reverse(ignore)
    assert_same(before, definition(fleet.pair.source))
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []
    with fleet.pair.source.connect() as conn:
        assert conn.execute("SELECT count(*) FROM everything.account WHERE tenant = 'new 1'").fetchone() == (
            1,
        )
