"""Who answers: tokens never stay in Prefect, wrong ones undo nothing, odd names break nothing."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from threading import Barrier
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner, Result

from deployments import answering
from deployments.answering import answer
from foreshard.approvers import TOKEN_VARIABLE
from foreshard.cli import app
from foreshard.control.approval_store import ApprovalStore
from foreshard.control.approver_store import ApproverStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.errors import AnswerRefused, ApprovalRequired, ForeshardError
from foreshard.migration.lifecycle import Stage
from foreshard.settings import load_settings
from tasks import runs
from tasks.reports import report_markdown
from tests.flows.approval_case import attempt, fill_in, inputs, key_of, stage_of, suspended, trail, waiting
from tests.flows.conftest import Deployed


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command against the test's servers."""
    monkeypatch.setenv("FORESHARD_PREFECT__API_URL", str(PREFECT_API_URL.value()))
    for variable in ("PREFECT_API_URL", "PREFECT_HOME"):  # which the commands set
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
        monkeypatch.delenv(variable)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)

    def call(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(app, [str(one) for one in arguments], env=environment)

    return call


def kept_by_prefect(secret: str) -> list[str]:
    """Tables of Prefect's database that hold ``secret`` in any column of any row."""
    url: Any = PREFECT_API_DATABASE_CONNECTION_URL.value()
    address = str(url.get_secret_value() if hasattr(url, "get_secret_value") else url)
    file = Path(address.partition(":///")[2])
    found = []
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        assert "flow_run_input" in tables
        for table in tables:
            if any(secret in str(row) for row in connection.execute(f'SELECT * FROM "{table}"')):
                found.append(table)
    return found


def test_the_search_finds_what_prefect_keeps(
    migrations: Deployed, client: SyncPrefectClient, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    fill_in(client, run, decision="approve", approver="Ada", comment="a-secret-comment")
    assert kept_by_prefect("a-secret-comment") == ["flow_run_input"]


def test_a_token_in_the_form_is_compared_and_gone(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FORESHARD_APPROVAL__TOKENS", "required")
    _, token = ApproverStore(control).add("Ada")
    run = waiting(migrations, before_cutover)
    (schema,) = (json.loads(value) for key, value in inputs(client, run).items() if key.endswith("-schema"))
    assert list(schema["properties"]) == ["decision", "approver", "comment", "token"]
    assert schema["required"] == ["decision", "approver"]
    assert all("default" not in schema["properties"][name] for name in ("decision", "approver", "token"))
    # Wrong ones: the same attempt is shown again, with why, and nothing is undone.
    first = attempt(control, before_cutover)
    wrongs: list[tuple[str, dict[str, str]]] = [
        ("that is not the token of Ada", {"approver": "Ada", "token": "fsa_wrong-secret"}),
        ("and the answer came without it", {"approver": "Ada"}),
        ("Mallory is not an approver", {"approver": "Mallory", "token": token}),
    ]
    for number, (why, wrong) in enumerate(wrongs, 2):
        fill_in(client, run, decision="reject", comment="", **wrong)
        run = suspended(migrations.carry_out(run))
        assert key_of(run) == f"approval-{first.id}-{number}"
        description = next(
            json.loads(v)
            for k, v in inputs(client, run).items()
            if k == f"suspended-{key_of(run)}-description"
        )
        assert why in description
        assert description.count("does not count") == 1
        assert "# Cutover: 2 buckets" in description
        assert kept_by_prefect(token) == []
        assert kept_by_prefect("fsa_wrong-secret") == []
    assert stage_of(control, before_cutover) is Stage.CUTOVER
    assert attempt(control, before_cutover).expires_at == first.expires_at
    assert trail(control) == ["asked", "wrong_token", "refused", "refused"]
    fill_in(client, run, decision="approve", approver="ada", comment="", token=token)
    assert kept_by_prefect(token) == ["flow_run_input"], "until the run reads it"
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE
    assert attempt(control, before_cutover).verified
    assert kept_by_prefect(token) == []
    assert token not in caplog.text


def test_the_shell_sends_a_voucher_and_no_token(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int, cli: Any,
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    said = cli("approver", "add", "Ada", "--json")
    token = json.loads(said.stdout)["token"]
    run = waiting(migrations, before_cutover)
    refused = cli("approve", before_cutover, "--as", "Ada", **{TOKEN_VARIABLE: "fsa_wrong"})
    assert refused.exit_code == 1
    assert "not the token of Ada" in refused.stderr
    none = cli("approve", before_cutover, "--as", "Ada")
    assert none.exit_code == 2
    assert "--token-file" in none.stderr
    assert attempt(control, before_cutover).form == 1, "Prefect was not asked"
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    said = cli("approve", before_cutover, "--as", "Ada", "--token-file", str(file), "--json")
    assert json.loads(said.stdout) == {
        "migration": before_cutover, "flip": 1, "attempt": 1, "decision": "approve", "approver": "Ada",
        "verified": True,
    }  # fmt: skip
    (sent,) = (json.loads(value) for key, value in inputs(client, run).items() if key.endswith("-response"))
    assert sorted(sent) == ["approver", "comment", "decision", "voucher"]
    assert kept_by_prefect(token) == []
    voucher = sent["voucher"]
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE
    found = attempt(control, before_cutover)
    assert (found.way, found.verified) == ("cli", True)
    assert kept_by_prefect(voucher) == []
    assert token not in caplog.text
    assert not any(
        token in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    )


def test_a_token_made_after_the_question_is_asked_for_in_the_next_form(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    _, token = ApproverStore(control).add("Ada")
    fill_in(client, run, decision="approve", approver="Ada", comment="")
    run = suspended(migrations.carry_out(run))
    fill_in(client, run, decision="approve", approver="Ada", comment="", token=token)
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE


ODD = 'O\'Brien "<b>" 東京 | [x](javascript:alert(1)) `;--'
MARKDOWN = "# Rejected by Bob\n\n| a | b |\n|---|---|\n<script>alert(1)</script> ![](http://x/y.png) **no**"


def test_odd_names_and_comments_are_text_in_the_report(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    fill_in(client, run, decision="approve", approver=f" {ODD}\n# x", comment=MARKDOWN)
    migrations.carry_out(run)
    document = MigrationStore(control).confirmation(before_cutover)
    assert document is not None
    assert document["approvals"][0]["approver"] == f"{ODD} # x"
    report = report_markdown(document)
    (line,) = (line for line in report.splitlines() if "**approved**" in line)
    for part in ("<script", "<b>", "![", "[x](", "\n# Rejected", "**no**"):
        assert part not in report
    assert "Rejected by Bob" in line
    assert "東京" in line


@pytest.mark.parametrize(
    "form", [{"approver": "x" * 201}, {"approver": " "}, {"approver": "Ada", "comment": "x" * 2001}, {}]
)
def test_what_cannot_be_an_answer_is_refused_by_the_form(
    migrations: Deployed,
    client: SyncPrefectClient,
    control: ControlDatabase,
    before_cutover: int,
    form: dict[str, str],
) -> None:
    run = waiting(migrations, before_cutover)
    response = fill_in(client, run, decision="approve", **form)
    assert response.status.value == "REJECT"
    suspended(client.read_flow_run(run.id))
    assert trail(control) == ["asked"]


def test_what_comes_past_the_form_is_refused_and_asked_again(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    """The page checks lengths only; and an unknown field may hold a token that is in the wrong place."""
    run = waiting(migrations, before_cutover)
    for form in ({"approver": "Ada\0"}, {"approver": "Ada", "password": "fsa_misplaced"}):
        fill_in(client, run, decision="approve", comment="", **form)
        run = suspended(migrations.carry_out(run))
        assert kept_by_prefect("fsa_misplaced") == []
    assert trail(control) == ["asked", "refused", "refused"]
    assert "fsa_misplaced" not in str(ApprovalStore(control).events())
    answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE


def test_of_two_people_who_answer_at_once_one_decides(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    barrier = Barrier(2)

    def give(who: str) -> str:
        barrier.wait()
        try:
            answer(control, load_settings(), before_cutover, approve=who == "Ada", approver=who)
        except ForeshardError as late:
            return type(late).__name__
        return who

    with ThreadPoolExecutor(2) as pool:
        # Which server it is stands in a context variable.
        given = [pool.submit(copy_context().run, give, who) for who in ("Ada", "Bob")]
        said = [one.result() for one in given]
    migrations.carry_out(run)
    decided = [one for one in ApprovalStore(control).events() if one.event in ("approved", "rejected")]
    assert len(decided) == 1
    assert decided[0].approver in said
    assert (stage_of(control, before_cutover) is Stage.DONE) == (decided[0].approver == "Ada")
    assert [key for key in inputs(client, run) if key.endswith("-response")] == []


def test_answering_twice_or_where_nothing_waits_is_one_clear_error(
    migrations: Deployed, control: ControlDatabase, before_cutover: int, cli: Any
) -> None:
    nothing = cli("approve", before_cutover, "--as", "Ada")
    assert (nothing.exit_code, len(nothing.stderr.splitlines())) == (1, 1)
    assert "does not wait for an approval" in nothing.stderr
    assert "There is no migration 99" in cli("reject", 99, "--as", "Ada").stderr
    waiting(migrations, before_cutover)
    assert cli("reject", before_cutover, "--as", "Ada", "--comment", "no").exit_code == 0
    again = cli("approve", before_cutover, "--as", "Bob")
    assert again.exit_code == 1
    assert "does not wait for attempt" in again.stderr
    with pytest.raises(ApprovalRequired):
        answer(control, load_settings(), before_cutover, approve=True, approver="Bob")


def test_an_answer_that_is_faster_than_the_form_waits_for_it(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A run suspends, and stores its form's schema a moment later: until then Prefect turns answers away."""
    run = waiting(migrations, before_cutover)
    (schema,) = (key for key in inputs(client, run) if key.endswith("-schema"))
    stored = inputs(client, run)[schema]
    client.delete_flow_run_input(run.id, schema)
    looks: list[bool] = []
    has_form = runs.has_form

    def look(*asked: Any) -> bool:
        looks.append(has_form(*asked))
        if len(looks) == 2:
            client.create_flow_run_input(run.id, schema, stored)
        return looks[-1]

    monkeypatch.setattr(runs, "has_form", look)
    answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
    assert looks == [False, False, True]
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE


def test_a_run_that_died_before_its_form_was_there_cannot_be_answered(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(answering, "FORM_PATIENCE_S", 0.0)
    run = waiting(migrations, before_cutover)
    for key in inputs(client, run):
        client.delete_flow_run_input(run.id, key)
    with pytest.raises(ApprovalRequired, match="died before it had stored the form"):
        answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
    assert trail(control) == ["asked"]
    assert inputs(client, run) == {}


def test_while_prefect_is_away_nothing_is_decided(
    migrations: Deployed, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    nowhere = "http://127.0.0.1:1/api"
    with (
        temporary_settings({PREFECT_API_URL: nowhere}),
        pytest.raises(ForeshardError, match="nothing was decided"),
    ):
        answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
    assert trail(control) == ["asked"]
    answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE


def test_a_run_that_was_deleted_while_it_waited(
    migrations: Deployed, control: ControlDatabase, before_cutover: int
) -> None:
    migrations.delete(waiting(migrations, before_cutover))
    with pytest.raises(ApprovalRequired, match="was deleted"):
        answer(control, load_settings(), before_cutover, approve=True, approver="Ada")


def test_the_shell_shows_what_waits_and_what_was_said(
    migrations: Deployed, control: ControlDatabase, before_cutover: int, cli: Any
) -> None:
    waiting(migrations, before_cutover)
    dry = cli("approve", before_cutover, "--as", "Ada", "--dry-run")
    assert dry.exit_code == 0, dry.output
    for part in (
        "Migration 1 waits",
        'approval.before = "cutover_only"',
        "go, 1 of 1 evaluated",
        "e" * 64,
        "no token",
    ):
        assert part in dry.stdout
    shown = json.loads(cli("approve", before_cutover, "--as", "Ada", "--dry-run", "--json").stdout)
    assert (shown["attempt"]["state"], shown["needs_token"], shown["checks"]["passed"]) == (
        "pending",
        False,
        True,
    )
    assert trail(control) == ["asked"], "nothing was answered"
    with pytest.raises(AnswerRefused):
        answer(control, load_settings(), before_cutover, approve=True, approver="Ada", token="fsa_of-nobody")
    table = cli("approvals")
    assert "asked" in table.stdout
    assert "refused" in table.stdout
    events = json.loads(cli("approvals", before_cutover, "--json").stdout)
    assert [one["event"] for one in events] == ["asked", "refused"]
    assert "is the name right" in events[1]["why"]
    assert cli("approvals", "99").exit_code == 1
    assert "Nobody has a token." in cli("approver", "list").stdout
    cli("approver", "add", "Ada")
    assert "Ada" in cli("approver", "list").stdout
    assert "counts no more" in cli("approver", "revoke", "ada").stdout
    assert cli("approver", "revoke", "ada").exit_code == 1
