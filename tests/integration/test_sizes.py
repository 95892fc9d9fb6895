"""Buckets of unusual size: one without a row, one with a single row that is very large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
import pytest

from foreshard.fleet.throwaway import ShardPair
from foreshard.migration.comparison import compare_all, differing
from foreshard.migration.lifecycle import Stage
from foreshard.topology.keys import KeyType
from tests.integration.moving_fleet import MovingFleet
from tests.integration.test_partitioned_tables import Checkpoint, checks_pass

pytestmark = pytest.mark.slow

MEGABYTES = 16
FILL = f"""
SET ROLE airline;
CREATE SCHEMA empty;
CREATE TABLE empty.blob (k text PRIMARY KEY, data bytea);
CREATE SCHEMA heavy;
CREATE TABLE heavy.blob (k text PRIMARY KEY, data bytea STORAGE EXTERNAL);
INSERT INTO heavy.blob SELECT 'k', decode(repeat('00ff5c1b', {MEGABYTES} * 1024 * 256), 'hex');
RESET ROLE;
"""


class Uneven(MovingFleet):
    """A fleet of those two buckets."""

    key_type = KeyType.TEXT
    tables: Mapping[str, str] = {"blob": "k"}
    all_buckets: Sequence[str] = ("empty", "heavy")
    buckets: Sequence[str] = all_buckets

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        conn.execute(FILL.encode())


@pytest.fixture
def fleet(shard_pair: ShardPair, control_dsn: str, tmp_path: Path) -> Iterator[MovingFleet]:
    moving = Uneven(shard_pair, control_dsn, tmp_path)
    yield moving
    moving.close()


def test_nothing_and_one_large_row_are_moved(fleet: MovingFleet, tmp_path: Path) -> None:
    fleet.run_until(Stage.CUTOVER)
    with fleet.runner() as runner:
        checks_pass(runner, tmp_path, Checkpoint.BEFORE_CUTOVER)
    fleet.run_until(Stage.FINALISE)
    with fleet.pair.target.connect() as conn:  # where an update leaves it, its value stays out of the WAL
        conn.execute("UPDATE heavy.blob SET k = 'other'")
    with fleet.runner() as runner:
        compared = compare_all(runner.work)
        assert [one.rows for one in compared] == [0, 1]
        assert compared[1].bytes > MEGABYTES * 1024 * 1024
        assert differing(compared) == []
    fleet.run_until(None)
    assert fleet.leftovers() == []
