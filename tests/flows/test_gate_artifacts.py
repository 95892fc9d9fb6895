"""The checks of a step end in two artifacts, a stored verdict with its figures, and pages; no servers are compared."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from typer.testing import CliRunner

from data_checks import migration_gate
from data_checks.evidence import EvidenceWriter
from data_checks.own_run import OwnChecks
from data_checks.scope import Scope
from foreshard import check_docs
from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.migration_store import MigrationStore
from foreshard.errors import GateRefused
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner, Step
from foreshard.migration.work import Work
from foreshard.postgres.chunk_digest import ChunkDigest
from foreshard.postgres.digests import RowDifference, TableComparison
from foreshard.postgres.last_word import Word
from foreshard.settings import load_settings
from tasks import gates
from tests.data_checks.conftest import write_equal

STEP = Step("cutover", Stage.CUTOVER, "before_cutover", approval=True, flip_no=4)
CHUNK = ChunkDigest(0, 1_234_567, "1", 1_234_567, "1")
SAME = TableComparison("b0000", "orders", (CHUNK,), (), 1_234_567, 5_000_000, 0, 0, 0.0)
GHOST = RowDifference(0, "customer=Ada, id=7", Word.GHOST)


@pytest.fixture
def runner(control: ControlDatabase, plan_id: int, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """What the gate needs of one; the Data Docs' port is one that nobody listens on."""
    monkeypatch.setenv("FORESHARD_CHECKS__DOCS_PORT", "4444")
    store = MigrationStore(control)
    lease = store.acquire(store.open(plan_id), "test", None, 600)
    return cast(Runner, SimpleNamespace(work=Work(control, load_settings(), lease)))


def collects(monkeypatch: pytest.MonkeyPatch, *differences: RowDifference) -> None:
    """As a collector whose servers hold these rows differently."""

    def collect(_: Work, scope: Scope, path: Path, own: OwnChecks) -> list[TableComparison]:
        del own
        with EvidenceWriter(path, scope, datetime.now(UTC)) as evidence:
            write_equal(evidence, scope)
            evidence.add("differences", [("b0000", f"orders {row.key}", 0, row.kind) for row in differences])
        return [TableComparison(**{**vars(SAME), "differences": differences})]

    monkeypatch.setattr(migration_gate, "collect", collect)


def check(runner: Runner) -> None:
    @flow
    def checks() -> None:
        gates.check(runner, STEP)

    checks()


def artifacts(client: SyncPrefectClient, migration: int) -> dict[str, Any]:
    """The newest of each key."""
    ours = ArtifactFilter(key=ArtifactFilterKey(like_=f"migration-{migration}-"))
    found = client.read_artifacts(artifact_filter=ours, sort=ArtifactSort.CREATED_DESC)
    return {one.key: one for one in reversed(found) if one.key}


def test_a_go_and_then_a_no(
    runner: Runner, client: SyncPrefectClient, control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = runner.work.lease.migration
    collects(monkeypatch)
    check(runner)
    go = artifacts(client, migration)
    words = str(go[f"migration-{migration}-checks"].data)
    assert f"## Go: before cutover, migration {migration}, flip 4" in words
    assert "**1,234,567 rows** (5.00 MB) of 1 table in 1 bucket, in 1 chunk on both sides" in words
    (run,) = check_docs.runs(load_settings().state_dir, migration)
    address = f"http://127.0.0.1:4444/migrations/{migration}/{run.name}/index.html"
    assert f"({address})" in words
    assert address in str(go[f"migration-{migration}-data-docs"].data)
    assert run.first_page.is_file()
    assert run.verdict_in_words == "go"

    collects(monkeypatch, GHOST)
    with pytest.raises(GateRefused):
        check(runner)
    no = str(artifacts(client, migration)[f"migration-{migration}-checks"].data)
    assert f"## NO: before cutover, migration {migration}, flip 4" in no
    assert "| b0000 | orders | 0 | customer=Ada, id=7 | ghost |" in no
    newest, _ = check_docs.runs(load_settings().state_dir, migration)
    assert newest.verdict_in_words == f"NO, 1 of {newest.verdict['expected']} checks failed"

    stored = FlipStore(control).gates(migration)
    assert [gate.passed for gate in stored] == [True, False]
    assert stored[1].verdict["compared"]["differing"][0]["key"] == "customer=Ada, id=7"
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    shown = CliRunner().invoke(app, ["migration", "show", str(migration)]).output
    assert "1,234,567" in shown
    assert "customer=Ada, id=7" in shown


def test_a_verdict_without_pages_has_no_link(
    runner: Runner, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evidence that cannot be judged: the no is told all the same."""

    def collect(_: Work, scope: Scope, path: Path, own: OwnChecks) -> list[TableComparison]:
        del own
        with EvidenceWriter(path, scope, datetime.now(UTC)) as evidence:
            write_equal(evidence, scope)
        with closing(sqlite3.connect(path)) as database:
            database.execute("DROP TABLE sequences")
        return []

    monkeypatch.setattr(migration_gate, "collect", collect)
    migration = runner.work.lease.migration
    link = f"migration-{migration}-data-docs"
    before = artifacts(client, migration).get(link)  # of another test's migration of this number
    with pytest.raises(GateRefused):
        check(runner)
    found = artifacts(client, migration)
    assert "it has no table sequences" in str(found[f"migration-{migration}-checks"].data)
    assert found.get(link) == before
