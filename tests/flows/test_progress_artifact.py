"""A migration's progress is one artifact in the UI, however many steps tell it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.progress_store import ProgressStore
from foreshard.migration.progress import Part, Progress
from tasks import progress_artifact
from tasks.progress_artifact import ProgressArtifact, as_markdown

ROWS = Progress(
    "rows", 1.23e9, 3e9, "bytes", 45.1e6,
    (
        Part("b0000.orders", 60e6, 60e6, 400_000),
        Part("b0001.orders", 31e6, 60e6, 210_000, 12.2e6),
        Part("b0002.o|d", 5e6, 60e6, 33_000),
        Part("b0003.orders", 0, 60e6, 0),
    ),
)  # fmt: skip


NUMBERS = count(90_001)


@pytest.fixture
def migration(control: ControlDatabase, plan_id: int) -> MigrationRecord:
    """With a number that no other test on this Prefect server has."""
    store = MigrationStore(control)
    return replace(store.get(store.open(plan_id)), id=next(NUMBERS))


def artifacts(client: SyncPrefectClient, migration: MigrationRecord) -> list[Artifact]:
    """All versions of the migration's one."""
    key = ArtifactFilterKey(any_=[f"migration-{migration.id}-progress"])
    return client.read_artifacts(artifact_filter=ArtifactFilter(key=key))


def test_what_it_looks_like(migration: MigrationRecord) -> None:
    assert as_markdown(migration, "backfill", ROWS).splitlines()[6:] == [
        "**backfill**: rows",
        "",
        "`████████░░░░░░░░░░░░` **41 %**",
        "",
        "|  | done | of | rows | rate | left |",
        "|:---|---:|---:|---:|---:|---:|",
        "| **all** | 1.23 GB | 3.00 GB | 643,000 | 45.1 MB/s | 39 s |",
        "| `b0001.orders` | 31.0 MB | 60.0 MB | 210,000 | 12.2 MB/s | 2.4 s |",
        "| `b0002.o/d` | 5.00 MB | 60.0 MB | 33,000 | - | - |",
        "",
        "1 finished, 2 under way, 1 waiting.",
    ]
    whole = Progress("tables compared", 3, 3, "tables")
    assert (
        as_markdown(migration, "verify", whole).splitlines()[-1]
        == "| **all** | 3 tables | 3 tables | - | - | - |"
    )
    half = Progress(
        "indexes", 1.4, 2, "objects", None, (Part("orders_day", 0.4, 1.0), Part("orders_pkey", 1.0, 1.0))
    )
    assert "| `orders_day` | 40% |  | - |  | - |" in as_markdown(migration, "backfill", half)
    many = tuple(Part(f"b{number}", 1, 2) for number in range(1000))
    lines = as_markdown(migration, "backfill", Progress("rows", 1000, 2000, "bytes", None, many)).splitlines()
    assert len(lines) < 40
    assert lines[-1] == "0 finished, 1000 under way (20 of them shown), 0 waiting."


def test_steps_share_one_key_and_the_last_word_is_shown(
    client: SyncPrefectClient, migration: MigrationRecord
) -> None:
    @flow
    def works() -> None:
        for step in ("backfill", "verify"):
            with ProgressArtifact(migration, step) as report:
                for done in range(1, 100):  # in far less than two seconds
                    report(Progress("rows", done, 100, "tables"))

    works()
    shown = artifacts(client, migration)
    assert sorted("**verify**:" in str(one.data) for one in shown) == [False, True]
    assert all("99 tables" in str(one.data) for one in shown)
    collected = client.read_latest_artifacts()
    (latest,) = [one for one in collected if one.key == f"migration-{migration.id}-progress"]
    assert "**verify**" in str(latest.data)
    assert "99 tables" in str(latest.data)


def test_a_picture_that_cannot_be_shown_stops_nothing(
    client: SyncPrefectClient, migration: MigrationRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: object) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setattr(progress_artifact, "create_markdown_artifact", away)

    @flow
    def works() -> str:
        with ProgressArtifact(migration, "backfill") as report:
            report(ROWS)
        return "done"

    assert works() == "done"
    assert artifacts(client, migration) == []


def test_the_command_line_shows_the_step_under_way(control: ControlDatabase, plan_id: int) -> None:
    store = MigrationStore(control)
    number = store.open(plan_id)
    lease = store.acquire(number, "test", None, 60)
    ProgressStore(control).keep(lease, "prepare", Progress("guards", 2, 2, "tables").to_json())
    ProgressStore(control).keep(lease, "backfill", ROWS.to_json())
    said = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["migration", "show", str(number)])
    assert said.exit_code == 0, said.output
    for word in (
        "backfill: rows",
        "1 finished, 2 under way, 1 waiting",
        "b0001.orders",
        "12.2 MB/s",
        "643,000",
    ):
        assert word in said.output
    assert "b0000.orders" not in said.output
    document = json.loads(CliRunner().invoke(app, ["migration", "show", str(number), "--json"]).stdout)
    (prepared, backfill) = document["progress"]
    assert prepared["document"]["done"] == 2
    assert backfill["document"]["parts"]["listed"][0]["name"] == "b0000.orders"
    assert (document["predicted"], document["measured"]["backfill_s"]) == (None, None)
