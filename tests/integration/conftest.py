"""Real servers for the integration tests: one set for each pytest process, fresh databases for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from foreshard.control.engine import ControlDatabase
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from tests.integration.moving_fleet import MovingFleet, drop_pair


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
    drop_pair(servers, pair)


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
def control(control_dsn: str) -> Iterator[ControlDatabase]:
    """A fresh control database with all its tables."""
    database = ControlDatabase(control_dsn)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def control_server(servers: ThrowawayServers) -> PostgresServer:
    """The server of the control database, for tests that stop it or look at it as superuser."""
    return servers.server("control")


@pytest.fixture
def fleet(shard_pair: ShardPair, control_dsn: str, tmp_path: Path) -> Iterator[MovingFleet]:
    """A fleet with a migration that has not begun."""
    moving = MovingFleet(shard_pair, control_dsn, tmp_path)
    yield moving
    moving.close()


@pytest.fixture(scope="module")
def copied_fleet(
    servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MovingFleet]:
    """A migration whose copies are complete: ready for flips. A file's tests share it and leave the bound at 0."""
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    moving = MovingFleet(pair, servers.new_control_database(), tmp_path_factory.mktemp("copied"))
    moving.run_until(Stage.VERIFY)
    yield moving
    moving.close()
    drop_pair(servers, pair)
