"""What PgBouncer is given to read: names, addresses, owners. That it reads it so is tested on the real one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreshard.errors import ForeshardError, InvalidInput
from foreshard.pgbouncer.alias import address_of, aliases, name_of
from foreshard.pgbouncer.ini import ini
from foreshard.topology.keys import SLOTS, KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Redirection, RoutingMap

DSNS = {
    "db1": "host=10.0.0.1 port=5433 dbname=app user=shop passfile=/etc/pgpass sslmode=verify-full",
    "db2": "postgresql://shop@db2/app",
}
MAP = RoutingMap(12, KeyType.INT8, ("b0000", "Tenant B"), Placement({"b0000": "db1", "Tenant B": "db2"}))


def moving(bound: int) -> RoutingMap:
    return replace(MAP, redirections=(Redirection(3, frozenset({"b0000"}), "db1", "db2", bound, 0.0),))


def test_one_alias_a_bucket_by_shard_without_passwords() -> None:
    assert ini(12, aliases(MAP, DSNS.__getitem__)).splitlines()[2:] == [
        "[databases]",
        "",
        "; db1",
        "; not PgBouncer's to say per database, left out: passfile, sslmode. TLS to the shards: server_tls_* there.",
        "b0000 = host='10.0.0.1' port='5433' dbname='app' user='shop'"
        """ connect_query='SET search_path TO "b0000", pg_temp' pool_mode=transaction""",
        "",
        "; db2",
        "Tenant*20B = host='db2' dbname='app' user='shop'"
        """ connect_query='SET search_path TO "Tenant B", pg_temp' pool_mode=transaction""",
    ]


def test_the_header_tells_the_epoch() -> None:
    assert "epoch 12" in ini(12, ()).splitlines()[0]


@pytest.mark.parametrize(("bound", "shard"), [(0, "db1"), (SLOTS, "db2")])
def test_a_bucket_in_migration_is_at_its_source_until_the_cutover(bound: int, shard: str) -> None:
    assert [one.shard for one in aliases(moving(bound), DSNS.__getitem__)] == [shard, "db2"]


def test_a_bucket_on_two_shards_has_no_alias() -> None:
    with pytest.raises(
        ForeshardError, match=r"b0000 has its keys on two shards during migration 3"
    ) as refused:
        aliases(moving(100), DSNS.__getitem__)
    assert refused.value.remedy


def test_names_that_the_file_cannot_hold_are_written_another_way_and_never_alike() -> None:
    names = [
        "b0000",
        "a.b-c_D",
        "Tenant B",
        "Tenant*20B",
        'a"b',
        "it's",
        "x=1;#",
        "[x]",
        "%include",
        "ü",
        "*",
    ]
    names.append("pgbouncer")
    written = [name_of(name) for name in names]
    assert written[:3] == ["b0000", "a.b-c_D", "Tenant*20B"]
    assert written[-1] == "*70gbouncer"
    assert len(set(written)) == len(names)
    assert all(set(one) <= set("*_.-") | {c for c in map(chr, range(128)) if c.isalnum()} for one in written)


def test_quotes_in_a_name_are_doubled_twice_where_they_are_quoted_twice() -> None:
    name = 'it\'s "b"'
    odd = RoutingMap(1, KeyType.INT8, (name,), Placement({name: "db2"}))
    wanted = """connect_query='SET search_path TO "it''s ""b""\", pg_temp\'"""
    assert wanted in ini(1, aliases(odd, DSNS.__getitem__))


@pytest.mark.parametrize("name", ["ü" * 11, "a-" * 31, "x" * 64, "a\nb = host=evil", "a\rb"])
def test_a_name_that_cannot_be_written_at_all_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        aliases(RoutingMap(1, KeyType.INT8, (name,), Placement({name: "db2"})), DSNS.__getitem__)
    assert refused.value.field == "buckets"


@pytest.mark.parametrize(
    ("dsn", "why"),
    [
        ("service=shop", "service"),
        ("host=a,b dbname=app", "several servers"),
        ("host=a port=1,2 dbname=app", "several servers"),
        ("host=a dbname=app options='-c statement_timeout=5s'", "options"),
        ("host=a", "names neither dbname nor user"),
        ("host=a dbname='x\nb = host=evil'", "line break"),
    ],
)
def test_an_address_that_pgbouncer_cannot_express_is_refused(dsn: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        address_of("db1", dsn)
    assert refused.value.field == "shards.db1.application_dsn"


def test_libpq_s_defaults_are_written_where_pgbouncer_has_others() -> None:
    assert address_of("db1", "host=a user=shop").parameters == {"host": "a", "dbname": "shop", "user": "shop"}


def test_an_address_is_preferred_to_a_name() -> None:
    assert address_of("db1", "host=db1.example hostaddr=10.0.0.1 dbname=a").parameters["host"] == "10.0.0.1"
