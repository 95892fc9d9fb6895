"""Fleets with keys that are bytes, or of two columns: adopted, moved under writes, nothing lost."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.shadow_store import ShadowStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput
from foreshard.fleet.grants import APPLICATION, OWNER, SHADOW
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.router import Router, Transaction
from foreshard.router.fleet_router import fleet_router
from foreshard.settings import ControlSettings, Settings
from foreshard.topology.keys import SLOTS, Key, KeyType, KeyTypes, bucket_number
from tests.integration.moving_fleet import QUICK, allow, ignore, wait_until
from tests.plans import new_plan

pytestmark = pytest.mark.slow

BUCKETS = ("b0", "b1", "b2")


@dataclass(frozen=True)
class Kind:
    """One kind of key, as a table and a description have it."""

    key_types: KeyTypes
    described: str
    columns: str
    definition: str
    keys: tuple[Key, ...]

    @property
    def names(self) -> list[str]:
        """The key's columns."""
        return [part.split()[0] for part in self.definition.split(",")]

    def parts(self, key: Key) -> tuple[object, ...]:
        """A key as parameters."""
        return key if isinstance(key, tuple) else (key,)

    @property
    def where(self) -> str:
        """A condition on one key."""
        return " AND ".join(f"{name} = %s" for name in self.names)

    def bucket(self, key: Key) -> str:
        """Where PostgreSQL's own PARTITION BY HASH would put it."""
        return BUCKETS[bucket_number(key, self.key_types, len(BUCKETS))]


KINDS = [
    Kind(
        KeyType.BYTEA,
        '"bytea"',
        '"digest"',
        "digest bytea NOT NULL",
        (b"", b"\0", *(bytes([number]) * (number % 40) for number in range(1, 90) if number % 40)),
    ),
    Kind(
        (KeyType.INT8, KeyType.TEXT),
        '["int8", "text"]',
        '["tenant_id", "region"]',
        "tenant_id bigint NOT NULL, region text NOT NULL",
        tuple((tenant, region) for tenant in range(30) for region in ("eu", "us", "żółw")),
    ),
]

DESCRIPTION = """
key_type = {key_type}
shadow_role = "{shadow}"
[buckets]
names = [{buckets}]
[tables]
things = {columns}
[shards.east]
dsn = "{east.operator_dsn}"
application_dsn = "{east.application_dsn}"
capacity = {{ queries_per_s = 500 }}
[shards.west]
dsn = "{west.operator_dsn}"
application_dsn = "{west.application_dsn}"
capacity = {{ queries_per_s = 500 }}
"""


def build(kind: Kind, east: ShardDatabase) -> None:
    """Three buckets on one shard, filled."""
    create = """
        CREATE SCHEMA {schema};
        CREATE TABLE {table} ({definition}, n int NOT NULL DEFAULT 0, PRIMARY KEY ({key}));
        GRANT USAGE ON SCHEMA {schema} TO {application};
        GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {application};
    """
    with east.connect() as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        for bucket in BUCKETS:
            table = sql.Identifier(bucket, "things")
            conn.execute(
                sql.SQL(create).format(
                    schema=sql.Identifier(bucket),
                    table=table,
                    definition=sql.SQL(kind.definition),  # type: ignore[arg-type]
                    key=sql.SQL(", ").join(map(sql.Identifier, kind.names)),
                    application=sql.Identifier(APPLICATION),
                )
            )
            for key in kind.keys:
                if kind.bucket(key) == bucket:
                    values = sql.SQL(", ").join([sql.Placeholder()] * len(kind.names))
                    conn.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(table, values), kind.parts(key))


def description(kind: Kind, pair: ShardPair, file: Path, buckets: tuple[str, ...]) -> Path:
    """What a person writes."""
    text = DESCRIPTION.format(
        key_type=kind.described,
        columns=kind.columns,
        shadow=SHADOW,
        buckets=", ".join(f'"{bucket}"' for bucket in buckets),
        east=pair.source,
        west=pair.target,
    )
    file.write_text(text, encoding="utf-8")
    return file


REFUSED = {"InsufficientPrivilege 42501", "UndefinedTable 42P01"}
"""Of a shadow read: the source's copy is closed to it, or dropped."""


class Counting:
    """A thread that counts keys up and reads them back, through the router, until it is stopped."""

    def __init__(self, kind: Kind, router: Router) -> None:
        self.counted: Counter[Key] = Counter()
        self.served_by: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._kind = kind
        self._router = router
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int) -> None:
        wanted = self.counted.total() + count
        wait_until(lambda: self.counted.total() >= wanted or bool(self.failures), f"{count} writes")
        assert not self.failures

    def _work(self) -> None:
        draw = random.Random(3)
        kind = self._kind
        try:
            while not self._stop.is_set():
                key = draw.choice(kind.keys)

                def count(tx: Transaction, key: Key = key) -> str:
                    tx.execute(f"UPDATE {{things}} SET n = n + 1 WHERE {kind.where}", kind.parts(key))
                    return tx.route.shard

                self.served_by[self._router.run(key, count)] += 1
                self.counted[key] += 1
                read = f"SELECT n FROM {{things}} WHERE {kind.where}"
                assert self._router.query(key, read, kind.parts(key)) == [(self.counted[key],)]
        except BaseException as failure:
            self.failures.append(failure)


@pytest.mark.parametrize("kind", KINDS, ids=["bytea", "composite"])
def test_a_fleet_with_such_keys_is_adopted_and_moved(
    kind: Kind,
    shard_pair: ShardPair,
    control_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="foreshard.router.shadow")
    build(kind, shard_pair.source)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.chdir(tmp_path)
    wrong = description(kind, shard_pair, tmp_path / "wrong.toml", BUCKETS[::-1])
    refused = CliRunner().invoke(app, ["adopt", str(wrong), "--write"])
    assert refused.exit_code != 0
    assert "are not in their buckets" in " ".join(refused.output.split())
    file = description(kind, shard_pair, tmp_path / "fleet.toml", BUCKETS)
    written = CliRunner().invoke(app, ["adopt", str(file), "--write"])
    assert written.exit_code == 0, written.output

    def failed_reads() -> list[str]:
        return [one.getMessage() for one in caplog.records if " failed: " in one.getMessage()]

    with closing(ControlDatabase(control_dsn)) as control:
        assert TopologyStore(control).routing_map().key_type == kind.key_types
        store = MigrationStore(control)
        migrations = QUICK.model_copy(update={"shadow_percent": 100.0, "shadow_min_reads": 20})
        settings = Settings(
            control=ControlSettings(dsn=control_dsn), migration=migrations, state_dir=tmp_path
        )
        migration = store.open(new_plan(control, "east", "west", BUCKETS[:2]))
        with (
            closing(fleet_router(control, "test", deadline_s=20)) as router,
            Runner(control, settings, migration, "test") as runner,
        ):
            with pytest.raises(InvalidInput, match="key"):
                router.query(7, "SELECT 1")
            at_work = Counting(kind, router)
            try:
                while (step := runner.next_step()) is not None:
                    at_work.more(10)
                    assert runner.record.bound == SLOTS or failed_reads() == []
                    allow(runner, step)
                    runner.perform(step, ignore)
                at_work.more(10)
                assert sum(len(one.rows) for one in router.report("SELECT n FROM {things}")) == len(kind.keys)
            finally:
                at_work.stop()
        assert at_work.failures == []
        assert at_work.served_by["west"] > 0
        assert store.get(migration).stage is Stage.DONE
        totals = ShadowStore(control).totals(migration)
        assert (totals.reads >= 20, totals.mismatches) == (True, 0)
        # Only those that were under way when the source's copy was closed to the shadow role at the cutover, or gone.
        assert {message.rpartition(" failed: ")[2] for message in failed_reads()} <= REFUSED
        assert totals.failures == len(failed_reads())
    for number, bucket in enumerate(BUCKETS):
        shard = shard_pair.target if number < 2 else shard_pair.source
        with shard.connect() as conn:
            rows = conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(bucket, "things")))
            found = {tuple(parts): n for *parts, n in rows.fetchall()}
        assert found == {
            kind.parts(key): at_work.counted[key] for key in kind.keys if kind.bucket(key) == bucket
        }
