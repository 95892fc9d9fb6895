"""Descriptions and inspections made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreshard.adoption.description import FleetDescription, parse_description
from foreshard.adoption.facts import ShardFacts
from foreshard.postgres.bucket_tables import Column, Table
from foreshard.topology.keys import KeyType, bucket_number

FILE = """
key_type = "int8"
[buckets]
pattern = "tenant_%"
[tables]
orders = "customer_id"
[shards.shard-1]
dsn = "host=one dbname=app user=foreshard"
application_dsn = "host=one dbname=app user=app"
capacity = { queries_per_s = 100 }
[shards.shard-2]
dsn = "host=two dbname=app user=foreshard"
application_dsn = "host=two dbname=app user=app"
capacity = { queries_per_s = 100 }
"""


def described(**changes: tuple[str, str]) -> FleetDescription:
    """The file above, with parts of its text replaced: ``name=(old, new)``."""
    text = FILE
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return parse_description(text)


def table(
    bucket: str,
    name: str,
    columns: Mapping[str, str],
    key: Sequence[str] = (),
    *,
    nullable: Sequence[str] = (),
    **more: Any,
) -> Table:
    """``columns``: type by name; all NOT NULL but ``nullable``."""
    shape = tuple(Column(column, kind, column not in nullable, False) for column, kind in columns.items())
    return Table(bucket, name, shape, tuple(key), 10, 8192, True, **more)


def orders(bucket: str) -> Table:
    """A table that is in order."""
    return table(bucket, "orders", {"customer_id": "int8", "order_id": "int8"}, ("customer_id", "order_id"))


def shard(name: str, tables: Sequence[Table], **more: Any) -> ShardFacts:
    """A shard that holds the tables' buckets."""
    number = int(name[-1])
    facts: dict[str, Any] = {"version": "17.10", "database": (number, 5), "encoding": "UTF8"}
    facts |= {"buckets": tuple(dict.fromkeys(one.bucket for one in tables)), "tables": tuple(tables)} | more
    return ShardFacts(name, **facts)


def keys_of(buckets: Sequence[str], count: int = 400) -> dict[tuple[str, str], list[int]]:
    """Keys of table orders, each in the bucket of its hash by the order of ``buckets``."""
    keys: dict[tuple[str, str], list[int]] = {}
    for key in range(count):
        bucket = buckets[bucket_number(key, KeyType.INT8, len(buckets))]
        keys.setdefault((bucket, "orders"), []).append(key)
    return keys
