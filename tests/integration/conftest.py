"""Real servers for the integration tests: one set for each pytest process, fresh databases for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers


@pytest.fixture(scope="session")
def servers() -> Iterator[ThrowawayServers]:
    """The servers of this process; each is started when first asked for."""
    with ThrowawayServers() as running:
        yield running


@pytest.fixture
def shard_pair(servers: ThrowawayServers) -> Iterator[ShardPair]:
    """Two fresh shards on two servers. Whatever the test leaves on them goes with them."""
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    yield pair
    for shard in (pair.target, pair.source):
        servers.unsubscribe(shard.name, shard.database)
    for shard in (pair.target, pair.source):
        servers.drop(shard.name, shard.database)


@pytest.fixture
def shard(servers: ThrowawayServers) -> Iterator[ShardDatabase]:
    """One fresh shard."""
    fresh = servers.new_shard("source")
    yield fresh
    servers.drop(fresh.name, fresh.database)


@pytest.fixture
def control_dsn(servers: ThrowawayServers) -> Iterator[str]:
    """A fresh, empty control database, as its owner ``foreshard``."""
    dsn = servers.new_control_database()
    yield dsn
    servers.drop("control", str(conninfo_to_dict(dsn)["dbname"]))


@pytest.fixture
def control_server(servers: ThrowawayServers) -> PostgresServer:
    """The server of the control database, for tests that stop it or look at it as superuser."""
    return servers.server("control")
