"""Keys that are found by a table of the fleet's own."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg import sql

from foreshard.errors import ConfigurationError, InvalidInput, ShardUnavailable
from foreshard.fleet.grants import OWNER
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.router import bucket_finder
from foreshard.router.bucket_finder import Directory, imported
from foreshard.router.map_source import StaticMapSource
from foreshard.router.router import Router
from foreshard.topology.bucketing import Bucketing, BucketingKind
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Intent, RoutingMap

TENANT, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def directory(shard: ShardDatabase) -> Iterator[Directory]:
    """A directory whose names need quotes."""
    with shard.connect() as conn:
        conn.execute("SET ROLE " + OWNER)
        conn.execute('CREATE SCHEMA "Tenants.2026"')
        conn.execute("""CREATE TABLE "Tenants.2026"."who's where" ("Id" uuid PRIMARY KEY, "in" text)""")
        conn.execute("""INSERT INTO "Tenants.2026"."who's where" VALUES (%s, 'tenant one')""", (TENANT,))
    bucketing = Bucketing(
        BucketingKind.DIRECTORY, shard.operator_dsn, """"Tenants.2026"."who's where\"""", "Id", "in"
    )
    found = Directory(bucketing, "test")
    yield found
    found.close()


def add(shard: ShardDatabase, tenant: UUID, bucket: str) -> None:
    with shard.connect() as conn:
        conn.execute(
            sql.SQL("INSERT INTO {} VALUES (%s, %s)").format(sql.Identifier("Tenants.2026", "who's where")),
            (tenant, bucket),
        )


def test_a_key_is_where_the_directory_says(directory: Directory, shard: ShardDatabase) -> None:
    assert directory(TENANT) == "tenant one"
    with pytest.raises(InvalidInput, match="not in the directory") as refused:
        directory(OTHER)
    assert refused.value.field == "key"
    add(shard, OTHER, "tenant two")
    assert directory(OTHER) == "tenant two"


def test_what_is_known_is_used_while_the_directory_is_away(
    directory: Directory, shard: ShardDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert directory(TENANT) == "tenant one"
    monkeypatch.setattr(bucket_finder, "_REMEMBERED_S", 0.0)
    monkeypatch.setattr(bucket_finder, "_WAIT_S", 0.2)
    shard.server.stop()
    try:
        assert directory(TENANT) == "tenant one"
        with pytest.raises(ShardUnavailable, match="directory"):
            directory(OTHER)
    finally:
        shard.server.start()


def test_a_router_follows_it(directory: Directory) -> None:
    buckets = ("tenant one", "tenant two")
    placement = Placement(dict(zip(buckets, ("one", "two"), strict=True)))
    found = RoutingMap(1, KeyType.UUID, buckets, placement, bucketing=BucketingKind.DIRECTORY)
    router = Router(StaticMapSource(found), {}, bucket_of=directory)
    try:
        assert router.route(TENANT, Intent.WRITE).shard == "one"
    finally:
        router.close()


def test_a_function_that_is_not_there_is_named() -> None:
    assert imported("json:dumps")("a") == '"a"'
    for missing in ("json:nothing", "no_such_module:f", "json:__name__"):
        with pytest.raises(ConfigurationError, match=r"bucketing\.function"):
            imported(missing)
