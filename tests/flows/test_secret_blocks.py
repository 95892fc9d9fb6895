"""A password from a real Secret block, read inside a flow, reaches the login and not Prefect's logs and parameters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from psycopg.conninfo import conninfo_to_dict

import tasks
from foreshard.errors import ConfigurationError, ShardUnavailable
from foreshard.postgres import passwords
from foreshard.postgres.connect import connect
from foreshard.postgres.passwords import PasswordSource
from tasks.secret_blocks import read

NOWHERE = "host=127.0.0.1 port=1 dbname=shop user=foreshard"
WORD = "hunter2-of-the-block"


@pytest.fixture(autouse=True)
def _block() -> Iterator[None]:
    assert tasks.__doc__
    passwords.read_blocks_by(read)  # what importing `tasks` did; another test may have undone it
    Secret(value=WORD).save("shard-1", overwrite=True)
    passwords.use([PasswordSource(role="foreshard", secret_block="shard-1")])
    yield
    passwords.use(())
    passwords.read_blocks_by(read)


@flow
def logs_in(dsn: str) -> bool:
    return conninfo_to_dict(passwords.completed(dsn))["password"] == WORD


@flow
def fails_to(dsn: str) -> None:
    connect(dsn)


def test_a_flow_reads_it(client: SyncPrefectClient, caplog: pytest.LogCaptureFixture) -> None:
    assert logs_in(NOWHERE)
    with pytest.raises(ShardUnavailable, match="Connection refused"):
        fails_to(NOWHERE)
    runs = client.read_flow_runs()
    assert len(runs) >= 2
    assert WORD not in "".join(run.model_dump_json() for run in runs)
    assert "Connection refused" in caplog.text
    assert WORD not in caplog.text


def test_a_block_that_is_not_there_is_named() -> None:
    passwords.use([PasswordSource(role="foreshard", secret_block="no-such-block")])
    with pytest.raises(ConfigurationError, match="'no-such-block', which cannot be read"):
        connect(NOWHERE)
