"""The Prefect server is restarted while a migration waits: the question stands, and its answer counts afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.answering import answer
from deployments.prefect_server import PrefectServer
from flows.migrate import migrate
from foreshard.control.engine import ControlDatabase
from foreshard.errors import ForeshardError
from foreshard.fleet.server import free_port
from foreshard.migration.lifecycle import Stage
from foreshard.settings import load_settings
from tests.flows.approval_case import stage_of, trail, waiting
from tests.flows.conftest import Deployed


@contextmanager
def running(server: PrefectServer) -> Iterator[SyncPrefectClient]:
    """The server, until it is stopped at the end."""
    server.start()
    try:
        server.wait_until_ready()
        with get_client(sync_client=True) as client:
            yield client
    finally:
        server.stop()


@pytest.mark.slow
def test_an_answer_while_the_server_restarts(
    control: ControlDatabase, before_cutover: int, tmp_path: Path
) -> None:
    server = PrefectServer(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/prefect.db", free_port(set()))
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        with running(server) as client:
            run = waiting(Deployed(migrate, client), before_cutover)
        with pytest.raises(ForeshardError, match="nothing was decided"):
            answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
        assert trail(control) == ["asked"]
        with running(server):
            answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
        # Once more, between the answer and the run that reads it.
        with running(server) as client:
            Deployed(migrate, client, keep=True).carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE
    assert trail(control) == ["asked", "approved"]
