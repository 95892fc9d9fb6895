"""What preflight found is seen in the UI and by `foreshard migration show`."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.migration.lifecycle import Stage
from foreshard.migration.preflight.findings import Finding
from tasks import preflight_artifact

FOUND = [
    Finding("b0000.orders", "is unlogged", "Make it logged."),
    Finding("shard-1: clock", "is +2.0 s from ours", "Set it.", blocking=False),
]


@pytest.fixture
def migration(control: ControlDatabase, plan_id: int) -> int:
    """A migration whose first preflight was refused for another reason than the second."""
    store = MigrationStore(control)
    number = store.open(plan_id)
    lease = store.acquire(number, "test", None, 60)
    for findings in ([Finding("old", "is mended", "")], FOUND):
        run = store.begin(lease, Stage.PREFLIGHT, "preflight")
        store.end(lease, run, "failed", {"findings": [asdict(one) for one in findings]})
    return number


def test_the_newest_findings_are_an_artifact(
    control: ControlDatabase, client: SyncPrefectClient, migration: int
) -> None:
    @flow
    def shows() -> None:
        preflight_artifact.show(MigrationStore(control), migration)

    shown_by = shows(return_state=True).state_details.flow_run_id
    shown = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[shown_by]))
    (artifact,) = client.read_artifacts(artifact_filter=shown)
    assert artifact.key == f"migration-{migration}-preflight"
    for said in ("b0000.orders", "blocks", "Make it logged.", "is +2.0 s from ours", "warns"):
        assert said in str(artifact.data)
    assert "is mended" not in str(artifact.data)


def test_the_command_line_shows_them(control: ControlDatabase, migration: int) -> None:
    assert control.revision()
    said = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["migration", "show", str(migration)]).output
    for word in ("blocks", "b0000.orders", "is unlogged", "Make it logged.", "warns", "shard-1: clock"):
        assert word in said
