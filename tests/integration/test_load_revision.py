"""The revision that moved the samples: nobody loses a history by it, nor by going back."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_keeper import LoadKeeper
from foreshard.control.load_levels import HOURS, RAW
from foreshard.control.load_store import LoadStore
from foreshard.load.keeping_settings import LoadKeeping
from foreshard.load.sample import Sample
from tests.integration.load_reference import hours_of
from tests.integration.test_load_store import DAY, ODD, RATE, START, assert_same, life, stored

INSERT = "INSERT INTO load_samples (ts, shard, bucket, metric, value, source) VALUES (%s, %s, %s, %s, %s, %s)"
SELECT = "SELECT ts, shard, bucket, metric, value::real, source FROM load_samples"


def go(connection: Connection, revision: str, *, back: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", "foreshard:control/alembic")
    config.attributes["connection"] = connection
    (command.downgrade if back else command.upgrade)(config, revision)


def test_samples_of_before_move_and_come_back(control_dsn: str) -> None:
    known = [
        *life(1, 65),
        *(Sample(START - 40 * DAY, shard, bucket, RATE, 2.0) for shard in ODD for bucket in (None, *ODD)),
        Sample(START, ODD[0], ODD[1], "memory_bytes", 1e-200),
    ]
    rows = [(one.ts, one.shard, one.bucket or "", one.metric, one.value, "live") for one in known]
    with closing(ControlDatabase(control_dsn)) as control:
        with control.engine.begin() as connection:
            go(connection, "0006")
            connection.exec_driver_sql(INSERT, rows)
            before = set(connection.exec_driver_sql(SELECT.replace("value::real", "value")).tuples())
        control.migrate()
        expected = hours_of(known)
        assert {ts for values in stored(control, RAW) for ts in [values]} == {one.ts for one in known}
        store = LoadStore(control)
        assert store.count_live(START - 50 * DAY, START + DAY) == len(known)
        assert store.shard_series(RATE, START - 50 * DAY, START + DAY).keys() >= set(ODD)
        LoadKeeper(control).keep(START + DAY)
        assert_same(stored(control, HOURS), expected)
        with control.engine.begin() as connection:
            go(connection, "0006", back=True)
            after = set(connection.exec_driver_sql(SELECT).tuples())
        # The old ones had been dropped: what is left of them is their hour, which is theirs.
        key = lambda row: (row[0] - timedelta(minutes=row[0].minute), *row[1:4])  # noqa: E731
        assert {key(row) for row in after} == {key(row) for row in before}
        kept = {row[:4]: row[4] for row in after if row[0] >= START}
        assert kept == pytest.approx({row[:4]: row[4] for row in before if row[0] >= START}, rel=1e-5)
        control.migrate()
        LoadKeeper(control, LoadKeeping(raw_days=300, five_minute_days=300)).keep(START + DAY)
        assert_same(stored(control, HOURS), expected)
