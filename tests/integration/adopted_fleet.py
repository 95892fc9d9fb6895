"""Fleets that Foreshard did not make: plain SQL on two shards, and their descriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psycopg import sql
from typer.testing import CliRunner, Result

from foreshard.cli import app
from foreshard.fleet.grants import APPLICATION, OWNER
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.topology.keys import KeyType, bucket_number

PGBENCH = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.pgbench_branches (bid int NOT NULL, bbalance int, filler char(88), PRIMARY KEY (bid));
CREATE TABLE {schema}.pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84), PRIMARY KEY (tid));
CREATE TABLE {schema}.pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84), PRIMARY KEY (aid));
CREATE TABLE {schema}.pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
INSERT INTO {schema}.pgbench_branches SELECT 1, 0;
INSERT INTO {schema}.pgbench_tellers SELECT tid, 1, 0 FROM generate_series(1, 10) tid;
INSERT INTO {schema}.pgbench_accounts SELECT aid, 1, 0 FROM generate_series(1, 100) aid;
"""

SHOP = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.customers (customer_id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE {schema}.orders (
    customer_id bigint NOT NULL REFERENCES {schema}.customers,
    order_id bigint NOT NULL,
    note text,
    PRIMARY KEY (customer_id, order_id)
);
"""

SHOP_TABLES = {"customers": "customer_id", "orders": "customer_id"}
CUSTOMERS = range(1, 61)


def run_as_owner(shard: ShardDatabase, script: str, schemas: Sequence[str]) -> None:
    """Run a script for each schema as the owner of the tables, and grant the application what it needs."""
    with shard.connect() as conn:
        for schema in schemas:
            names = {"schema": sql.Identifier(schema), "application": sql.Identifier(APPLICATION)}
            grants = (
                "GRANT USAGE ON SCHEMA {schema} TO {application};"
                "GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {application};"
            )
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
            conn.execute(sql.SQL(script + grants).format(**names))  # type: ignore[arg-type]
            conn.execute("RESET ROLE")
        conn.execute("ANALYZE")


def add_customers(shard: ShardDatabase, schema: str, customers: Sequence[int]) -> None:
    """Some customers with an order each."""
    with shard.connect() as conn:
        for table, columns in (("customers", "%s, 'Ada'"), ("orders", "%s, 1")):
            conn.cursor().executemany(
                sql.SQL("INSERT INTO {} VALUES (" + columns + ")").format(sql.Identifier(schema, table)),  # type: ignore[arg-type]
                [(customer,) for customer in customers],
            )


def hashed_shop(pair: ShardPair, buckets: Sequence[str]) -> None:
    """A shop whose customers are in the buckets of their hash; the first half of the buckets is on the source."""
    half = len(buckets) // 2
    for shard, mine in ((pair.source, buckets[:half]), (pair.target, buckets[half:])):
        run_as_owner(shard, SHOP, mine)
        for bucket in mine:
            number = buckets.index(bucket)
            keys = [key for key in CUSTOMERS if bucket_number(key, KeyType.INT8, len(buckets)) == number]
            add_customers(shard, bucket, keys)


def description(
    pair: ShardPair,
    *,
    tables: Mapping[str, str],
    key_type: str = "int8",
    buckets: str = 'pattern = "tenant%"',
    bucketing: str = "",
) -> str:
    """The file for both shards."""
    lines = [f'key_type = "{key_type}"', "[buckets]", buckets, "[bucketing]", bucketing, "[tables]"]
    lines += [f'{json.dumps(table)} = "{column}"' for table, column in tables.items()]
    for shard in (pair.source, pair.target):
        lines += [f"[shards.{shard.name}]", f'dsn = "{shard.operator_dsn}"']
        lines += [f'application_dsn = "{shard.application_dsn}"', "capacity = { queries_per_s = 100 }"]
    return "\n".join(lines)


def adopt(directory: Path, text: str, *options: str) -> Result:
    """`foreshard adopt` on that description."""
    file = directory / "fleet.toml"
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["adopt", str(file), *options])


def document(result: Result) -> dict[str, Any]:
    """What --json printed."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def said_of(report: Mapping[str, Any], table: str) -> tuple[set[str], str]:
    """Verdicts of a table in all buckets, and all that is said of it."""
    found = [one for bucket in report["buckets"] for one in bucket["tables"] if one["name"] == table]
    words = [f"{why['subject']} {why['why']} {why['remedy']}" for one in found for why in one["reasons"]]
    return {one["verdict"] for one in found}, " ".join(words)
