"""A fleet that Foreshard did not make is described, inspected, and taken over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import NotFound
from foreshard.fleet.throwaway import ShardPair
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.router.fleet_router import fleet_router
from foreshard.settings import ControlSettings, Settings
from foreshard.topology.bucketing import BucketingKind
from foreshard.topology.routing_map import Intent
from tests.integration.adopted_fleet import (
    PGBENCH,
    SHOP,
    SHOP_TABLES,
    add_customers,
    adopt,
    description,
    document,
    hashed_shop,
    run_as_owner,
    said_of,
)
from tests.integration.moving_fleet import QUICK, allow, ignore
from tests.plans import new_plan

BUCKETS = [f"tenant_{number}" for number in range(1, 7)]


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.delenv("FORESHARD_CONTROL__DSN", raising=False)


@pytest.fixture
def control(control_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlDatabase]:
    """An empty control database, the one of the settings."""
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    database = ControlDatabase(control_dsn)
    yield database
    database.close()


def test_a_plain_pgbench_fleet_is_told_the_truth(shard_pair: ShardPair, tmp_path: Path) -> None:
    for shard, buckets in ((shard_pair.source, BUCKETS[:3]), (shard_pair.target, BUCKETS[3:])):
        run_as_owner(shard, PGBENCH, buckets)
    tables = {"pgbench_accounts": "bid", "pgbench_branches": "bid"}
    text = description(shard_pair, tables=tables, key_type="int4", buckets='pattern = "tenant_%"')
    result = adopt(tmp_path, text, "--json")
    assert result.exit_code == 1, result.output
    report = document(result)
    assert [bucket["name"] for bucket in report["buckets"]] == BUCKETS
    assert not report["written"]

    verdicts, words = said_of(report, "pgbench_accounts")
    assert verdicts == {"not movable"}
    assert "bid may be NULL" in words
    assert "pgbench_accounts_pkey" in words  # which does not hold bid
    verdicts, words = said_of(report, "pgbench_branches")
    assert (verdicts, words) == ({"movable"}, "")
    verdicts, words = said_of(report, "pgbench_tellers")
    assert verdicts == {"not movable"}
    assert "is not in [tables]; its distribution column could be bid (may be NULL, distributes" in words
    assert 'add pgbench_tellers = "bid" to [tables]' in words
    verdicts, words = said_of(report, "pgbench_history")
    assert verdicts == {"not movable"}
    assert "has no primary key" in words
    assert "could be bid" in words
    # Every tenant has branch 1: that column cannot say where a row is.
    assert any("holds key 1 in tenant_1 and in tenant_2" in one["remedy"] for one in report["findings"])

    shown = adopt(tmp_path, text)
    for name in ("pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"):
        assert name in shown.stdout
    assert "6 buckets: 0 movable, 0 only as a whole" in " ".join(shown.stdout.split())
    assert [one.name for one in tmp_path.iterdir()] == ["fleet.toml"]


def test_a_hashed_fleet_is_written_and_its_buckets_move(
    shard_pair: ShardPair, control: ControlDatabase, tmp_path: Path
) -> None:
    hashed_shop(shard_pair, BUCKETS)
    text = description(shard_pair, tables=SHOP_TABLES)
    dry = adopt(tmp_path, text)
    assert dry.exit_code == 0, dry.output
    assert "6 movable" in dry.stdout
    assert "Nothing was written" in dry.stdout
    assert control.revision()[0] is None

    written = adopt(tmp_path, text, "--write", "--json")
    assert written.exit_code == 0, written.output
    assert document(written)["written"]
    topology = TopologyStore(control)
    assert topology.tables() == SHOP_TABLES
    assert [bucket.name for bucket in topology.buckets()] == BUCKETS
    assert topology.placement().buckets_on("source") == tuple(BUCKETS[:3])
    epoch = topology.routing_map().epoch

    again = adopt(tmp_path, text, "--write")
    assert "nothing to write" in again.stdout
    assert topology.routing_map().epoch == epoch

    # A router finds every customer, and a bucket moves.
    router = fleet_router(control, "test")
    try:
        for customer in (1, 2, 3, 17, 42):
            rows = router.query(customer, "SELECT name FROM {customers} WHERE customer_id = %s", (customer,))
            assert rows == [("Ada",)]
    finally:
        router.close()
    migration = MigrationStore(control).open(new_plan(control, "source", "target", BUCKETS[:1]))
    settings = Settings(
        control=ControlSettings(dsn=control.conninfo), migration=QUICK, state_dir=tmp_path / "state"
    )
    with Runner(control, settings, migration, "test") as runner:
        while (step := runner.next_step()) is not None and step.stage is not Stage.VERIFY:
            allow(runner, step)
            runner.perform(step, ignore)

    # While it moves its bucket is on both shards, and nothing else is to change.
    assert "nothing to write" in adopt(tmp_path, text, "--write").stdout
    fewer = description(shard_pair, tables={"customers": "customer_id"})
    refused = adopt(tmp_path, fewer, "--write")
    assert refused.exit_code == 1
    assert f"tables must not change until migration {migration} has ended" in refused.stdout
    assert topology.tables() == SHOP_TABLES
    with Runner(control, settings, migration, "test") as runner:
        while (step := runner.next_step()) is not None:
            allow(runner, step)
            runner.perform(step, ignore)
    assert topology.placement().shard_of(BUCKETS[0]) == "target"
    assert "nothing to write" in adopt(tmp_path, text, "--write").stdout


def test_keys_that_are_elsewhere_are_not_written(
    shard_pair: ShardPair, control: ControlDatabase, tmp_path: Path
) -> None:
    names = [f"tenant_{number}" for number in range(1, 13)]
    hashed_shop(shard_pair, names)  # in the order of the numbers, which is not the order of the alphabet
    refused = adopt(tmp_path, description(shard_pair, tables=SHOP_TABLES), "--write")
    assert refused.exit_code == 1
    words = " ".join(refused.stdout.split())
    assert "keys are not in their buckets" in words
    assert "give [buckets] names in that order (tenant_1, tenant_2, tenant_3, …)" in words
    assert "Nothing was written" in words
    named = "names = [" + ", ".join(f'"{name}"' for name in names) + "]"
    written = adopt(tmp_path, description(shard_pair, tables=SHOP_TABLES, buckets=named), "--write")
    assert written.exit_code == 0, written.output
    assert [bucket.name for bucket in TopologyStore(control).buckets()] == names


def test_a_directory_is_followed(shard_pair: ShardPair, control: ControlDatabase, tmp_path: Path) -> None:
    with shard_pair.source.connect() as conn:
        conn.execute(
            "CREATE SCHEMA directory;"
            "CREATE TABLE directory.tenants (id bigint PRIMARY KEY, home text);"
            "INSERT INTO directory.tenants VALUES (1, 'tenant_a'), (2, 'tenant_b'), (3, 'tenant c')"
        )
        for role in ("foreshard", "airline_app"):
            conn.execute(
                sql.SQL(
                    "GRANT USAGE ON SCHEMA directory TO {0}; GRANT SELECT ON directory.tenants TO {0}"
                ).format(sql.Identifier(role))
            )
    for shard, key, bucket in (
        (shard_pair.source, 1, "tenant_a"),
        (shard_pair.target, 2, "tenant_b"),
        (shard_pair.target, 3, "tenant c"),
    ):
        run_as_owner(shard, SHOP, [bucket])
        add_customers(shard, bucket, [key])
    directory = (
        f'kind = "directory"\ndsn = "{shard_pair.source.operator_dsn}"\ntable = "directory.tenants"\n'
        'key_column = "id"\nbucket_column = "home"'
    )
    text = description(shard_pair, tables=SHOP_TABLES, bucketing=directory)
    written = adopt(tmp_path, text, "--write")
    assert written.exit_code == 0, written.output
    assert TopologyStore(control).bucketing().kind is BucketingKind.DIRECTORY
    router = fleet_router(control, "test")
    try:
        assert router.route(3, Intent.WRITE).bucket == "tenant c"
    finally:
        router.close()

    with shard_pair.source.connect() as conn:
        conn.execute("INSERT INTO directory.tenants SELECT g, 'tenant_z' FROM generate_series(10, 14) g")
        conn.execute("DELETE FROM directory.tenants WHERE id = 2")
    refused = adopt(tmp_path, text, "--write")
    words = " ".join(refused.stdout.split())
    assert refused.exit_code == 1
    assert "sends 5 keys to bucket tenant_z, which is not on any shard" in words
    assert "key 2 of tenant_b.customers is unknown to the directory" in words
    unqualified = text.replace("directory.tenants", "tenants")
    assert "Name the table with its schema" in " ".join(adopt(tmp_path, unqualified).stdout.split())


def test_a_function_is_called(shard_pair: ShardPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_shop.py").write_text(
        "def home(key):\n    return f'tenant_{key}'\n\ndef broken(key):\n    return 1 // 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run_as_owner(shard_pair.source, SHOP, ["tenant_1", "tenant_2"])
    add_customers(shard_pair.source, "tenant_1", [1])
    add_customers(shard_pair.source, "tenant_2", [2])
    for function, exit_code, part in (
        ("their_shop:home", 0, "2 movable"),
        ("their_shop:broken", 1, "fails: ZeroDivisionError"),
        ("their_shop:gone", 1, "their_shop:gone is not there"),
    ):
        called = f'kind = "callable"\nfunction = "{function}"'
        result = adopt(tmp_path, description(shard_pair, tables=SHOP_TABLES, bucketing=called))
        assert result.exit_code == exit_code, result.output
        assert part in " ".join(result.stdout.split())


def test_a_shard_that_is_down_is_one_finding_and_the_other_is_shown(
    shard_pair: ShardPair, control: ControlDatabase, tmp_path: Path
) -> None:
    hashed_shop(shard_pair, BUCKETS)
    text = description(shard_pair, tables=SHOP_TABLES)
    assert adopt(tmp_path, text, "--write").exit_code == 0
    shard_pair.target.server.stop()
    try:
        result = adopt(tmp_path, text, "--write", "--json")
    finally:
        shard_pair.target.server.start()
    assert result.exit_code == 1
    report = document(result)
    (finding,) = [one for one in report["findings"] if one["untrue"]]
    assert (finding["subject"], "does not answer" in finding["why"]) == ("target", True)
    assert [bucket["name"] for bucket in report["buckets"]] == BUCKETS[:3]
    assert not report["written"]
    assert len(TopologyStore(control).buckets()) == 6


def test_a_bucket_on_two_shards_is_not_written(
    shard_pair: ShardPair, control: ControlDatabase, tmp_path: Path
) -> None:
    hashed_shop(shard_pair, BUCKETS)
    run_as_owner(shard_pair.target, SHOP, BUCKETS[:1])
    result = adopt(tmp_path, description(shard_pair, tables=SHOP_TABLES), "--write")
    assert result.exit_code == 1
    assert "bucket tenant_1 is on source and on target" in " ".join(result.stdout.split())
    with pytest.raises(NotFound, match="no fleet yet"):
        TopologyStore(control).tables()


def test_a_tenant_that_goes_leaves_the_topology(
    shard_pair: ShardPair, control: ControlDatabase, tmp_path: Path
) -> None:
    run_as_owner(shard_pair.source, SHOP, ["tenant_1", "tenant_2"])
    called = 'kind = "callable"\nfunction = "json:dumps"'
    text = description(shard_pair, tables=SHOP_TABLES, bucketing=called)
    assert adopt(tmp_path, text, "--write").exit_code == 0
    run_as_owner(shard_pair.target, SHOP, ["tenant_0"])
    with shard_pair.source.connect() as conn:
        conn.execute("DROP SCHEMA tenant_1 CASCADE")
    changed = document(adopt(tmp_path, text, "--write", "--json"))["changes"]
    assert {(one["what"], one["was"], one["becomes"]) for one in changed} == {
        ("bucket tenant_1", "number 0 on source", ""),
        ("bucket tenant_0", "", "number 2 on target"),
    }
    assert TopologyStore(control).placement().of == {"tenant_2": "source", "tenant_0": "target"}
