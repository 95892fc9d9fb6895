"""One Prefect server for all survival tests, and an installation with a fleet of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from tests.integration.moving_fleet import MovingFleet, drop_pair
from tests.survival.installation import Installation, PoolInstallation, Prefect


@pytest.fixture(scope="session")
def servers() -> Iterator[ThrowawayServers]:
    with ThrowawayServers() as running:
        yield running


@pytest.fixture(scope="session")
def prefect(servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """Its server; a test that passes leaves it running."""
    made = Prefect(servers, tmp_path_factory.mktemp("prefect"))
    made.start()
    # The settings of this process are those of a client of that server, whatever other tests use here.
    with temporary_settings({PREFECT_API_URL: made.server.api_url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield made
    made.server.stop()


@pytest.fixture
def fleet(servers: ThrowawayServers, tmp_path: Path) -> Iterator[MovingFleet]:
    """Two shards and a migration that has not begun."""
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    fleet = MovingFleet(pair, servers.new_control_database(), tmp_path)
    yield fleet
    fleet.close()
    drop_pair(servers, pair)


@pytest.fixture
def installed(prefect: Prefect, fleet: MovingFleet) -> Iterator[Installation]:
    """Nothing is served yet."""
    prefect.start_if_away()
    installation = Installation(prefect, fleet)
    installation.forget_runs()
    yield installation
    installation.stop()


@pytest.fixture
def pool(prefect: Prefect, fleet: MovingFleet) -> Iterator[PoolInstallation]:
    """No worker is there yet."""
    prefect.start_if_away()
    installation = PoolInstallation(prefect, fleet)
    installation.forget_runs()
    yield installation
    installation.stop()
