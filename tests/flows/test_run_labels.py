"""Runs that a person recognises in a list, and finds by a migration's tag; and the front page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.runtime import flow_run

from flows.calendar_edit import calendar_edit
from flows.janitor import janitor
from flows.migrate import migrate
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.settings import load_settings
from tasks import fleet_artifact, links, plan_links, run_labels
from tasks.calendar_editing import CalendarEdit
from tests.flows.conftest import Deployed


@pytest.fixture
def deployed(client: SyncPrefectClient) -> Deployed:
    return Deployed(migrate, client)


@pytest.fixture
def page(client: SyncPrefectClient) -> Iterator[None]:
    """The Prefect server is the whole session's: no front page of another test stands there."""
    remove(client)
    yield
    remove(client)


def remove(client: SyncPrefectClient) -> None:
    for one in versions(client, links.FLEET):
        client.delete_artifact(one.id)


def versions(client: SyncPrefectClient, key: str) -> list[Artifact]:
    return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))


def labelled(client: SyncPrefectClient, label: Any, *arguments: Any, **named: Any) -> FlowRun:
    """A run that does nothing but label itself."""

    @flow
    def any_flow() -> str:
        label(*arguments, **named)
        return str(flow_run.id)

    return client.read_flow_run(any_flow())


def test_a_run_started_by_its_migrations_number_only(
    client: SyncPrefectClient, control: ControlDatabase, plan_id: int
) -> None:
    migration = MigrationStore(control).open(plan_id)
    run = labelled(client, run_labels.of_migration, control, "migrate", migration_id=migration)
    assert run.name == "migrate shard-1 -> shard-2, 2 buckets"
    assert set(run.tags) == {"shard-1", "shard-2", f"plan-{plan_id}", f"migration-{migration}"}
    back = labelled(client, run_labels.of_migration, control, "reverse", migration_id=migration)
    assert back.name == f"reverse migration {migration} (shard-2 -> shard-1)"


def test_a_number_that_there_is_not_is_no_failure_of_the_name(
    client: SyncPrefectClient, control: ControlDatabase
) -> None:
    run = labelled(client, run_labels.of_migration, control, "migrate", plan_id=9999)
    assert run.name == "migrate plan 9999"


def test_the_flow_itself_is_named_before_it_is_refused(deployed: Deployed, control: ControlDatabase) -> None:
    del control
    run = deployed.carry_out(deployed.create(migration_id=9999))
    assert run.name == "migrate migration 9999"
    assert run.state is not None
    assert run.state.is_failed()
    assert "There is no migration 9999" in (run.state.message or "")


def test_tags_are_added_to_those_of_the_deployment(client: SyncPrefectClient) -> None:
    @flow
    def tagged() -> str:
        run_labels.tag("plan-5")
        run_labels.tag("migration-3")
        run_labels.rename("x" * 500)
        return str(flow_run.id)

    run = client.read_flow_run(tagged.with_options()())
    assert set(run.tags) == {"plan-5", "migration-3"}
    assert run.name == "x" * run_labels.LONGEST


def runs_called(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))


def test_other_flows(
    client: SyncPrefectClient, control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    del control
    monkeypatch.setattr("tasks.recovery.clean_up", lambda *_: [])  # there are no shards to look at
    janitor(dry_run=True)
    assert runs_called(client, "janitor, dry run")
    name = f"Sale | <b> {uuid4()}"
    given = {"action": "add", "name": name, "starts_at": "2030-01-01", "ends_at": "2030-01-02", "effect": 2}
    calendar_edit(CalendarEdit.model_validate(given))
    assert runs_called(client, f"calendar: add {name}")
    assert labelled(client, run_labels.of_verification, 3, None).tags == ["migration-3"]


def test_a_name_that_cannot_be_set_stops_nothing(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: object) -> None:
        raise ConnectionError("the server is away")

    with monkeypatch.context() as patched:
        patched.setattr(run_labels, "get_client", away)
        run = labelled(client, run_labels.rename, "a name")
    assert run.state is not None
    assert run.state.is_completed()
    assert run.name != "a name"


def test_the_front_page_is_one_artifact_that_is_written_over(
    client: SyncPrefectClient, control: ControlDatabase, plan_id: int, page: None
) -> None:
    del page
    settings = load_settings()

    @flow
    def shows() -> None:
        fleet_artifact.show(control, settings)

    shows()
    (first,) = versions(client, links.FLEET)
    assert "No migration." in str(first.data)
    number = MigrationStore(control).open(plan_id)
    shows()
    (second,) = versions(client, links.FLEET)
    assert second.id == first.id
    assert f"**Migration {number}**: shard-1 → shard-2, 2 buckets" in str(second.data)
    assert "1 migration under way" in (second.description or "")


def test_a_plan_leads_to_its_migration_once_it_has_begun(
    client: SyncPrefectClient, control: ControlDatabase, plan_id: int
) -> None:
    migration = MigrationStore(control).get(MigrationStore(control).open(plan_id))

    @flow
    def shows() -> None:
        from prefect.artifacts import create_markdown_artifact

        text = f"[Fleet](x) · {plan_links.NOT_BEGUN}\n\n# Move"
        create_markdown_artifact(key=f"plan-{plan_id}", markdown=text)
        plan_links.show_migration(migration)
        plan_links.show_migration(migration)  # a run that starts from its top says it again

    shows()
    newest = max(versions(client, f"plan-{plan_id}"), key=lambda one: str(one.created))
    assert str(newest.data).count(f"[Migration {migration.id}](../../artifacts/key/") == 1
    assert plan_links.NOT_BEGUN not in str(newest.data)
