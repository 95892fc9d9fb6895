"""A condition arises, a person is notified; it stays, and nobody is told again; it ends, and that is told once."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from typer.testing import CliRunner

from deployments import automations
from deployments.automations import NO_FORECAST, PREFIX
from flows.janitor import janitor
from foreshard.alerts.alert import KINDS, AlertKind
from foreshard.alerts.alert_settings import AlertSettings
from foreshard.cli import app
from foreshard.control.alert_store import AlertStore
from foreshard.control.approval_answers import Answer
from foreshard.control.approval_store import ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease
from foreshard.control.migration_store import MigrationStore
from foreshard.errors import ConfigurationError
from foreshard.settings import Settings, load_settings
from tasks import alerts, events
from tests import measured_fleet

BLOCK = "custom-webhook/dba"
TOKEN = "hush-hush"
RUN = "0198c0de-0000-7000-8000-000000000001"


class Receiver:
    """What would be a chat: a loopback server that takes notifications."""

    def __init__(self) -> None:
        self._came: queue.Queue[dict[str, str]] = queue.Queue()
        came = self._came

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                came.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def next(self, timeout_s: float = 60.0) -> dict[str, str]:
        """The next notification."""
        return self._came.get(timeout=timeout_s)

    @property
    def silent(self) -> bool:
        """Nothing came that was not looked at."""
        return self._came.empty()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    CustomWebhookNotificationBlock(
        name="dba",
        url=made.url,
        json_data={"subject": "{{subject}}", "body": "{{body}}", "token": "{{token}}"},
        secrets={"token": TOKEN},
    ).save("dba", overwrite=True)
    yield made
    automations.remove()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def settings(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FORESHARD_ALERTS__BLOCKS", json.dumps([BLOCK]))
    settings = load_settings()
    assert settings.control.dsn == control.conninfo
    return settings


@pytest.fixture
def waiting(control: ControlDatabase) -> Lease:
    """A migration that waits for approval a minute before its plan's deadline."""
    lease = measured_fleet.open_migration(
        control, "shard-1", "shard-2", "b0000", start_by=timedelta(minutes=1)
    )
    measured_fleet.ask_approval(control, lease)
    return lease


def with_alerts(settings: Settings, **changed: Any) -> Settings:
    """The same with other alerts, whatever the environment says."""
    return settings.model_copy(update={"alerts": AlertSettings(**changed)})


def a_minute(control: ControlDatabase, settings: Settings) -> None:
    """What the janitor does every minute."""

    @flow(name="a minute")
    def minute() -> None:
        alerts.tell(control, settings)

    minute()


def decide(control: ControlDatabase, lease: Lease) -> None:
    """A person approves, and the migration goes on."""
    approvals = ApprovalStore(control)
    attempt = approvals.newest(lease.migration)
    assert attempt is not None
    approvals.decide(attempt.id, Answer(True, "Ada"))
    MigrationStore(control).acquire(lease.migration, "runner", RUN, 600)


def test_one_notification_when_it_begins_and_one_when_it_is_over(
    control: ControlDatabase, settings: Settings, receiver: Receiver, waiting: Lease
) -> None:
    automations.apply(settings)
    with control.transaction() as session:
        session.connection().exec_driver_sql(f"UPDATE migrations SET flow_run_id = '{RUN}'")
    for _ in range(3):
        a_minute(control, settings)
    began = receiver.next()
    assert began["subject"] == f"migration {waiting.migration} (shard-1 to shard-2): approval overdue"
    assert began["token"] == TOKEN
    for part in (
        "has waited for approval",
        "What to do: Approve or reject it now",
        "Since: ",
        "Run: http",
        RUN,
    ):
        assert part in began["body"], began["body"]
    decide(control, waiting)
    for _ in range(2):
        a_minute(control, settings)
    over = receiver.next()
    assert over["subject"] == f"Over: {began['subject']}"
    assert "It is over." in over["body"]
    assert "What to do" not in over["body"]
    assert receiver.silent
    (record,) = AlertStore(control).all()
    assert record.end_told_at is not None


def test_an_event_that_prefect_did_not_take_is_sent_again(
    control: ControlDatabase,
    settings: Settings,
    receiver: Receiver,
    waiting: Lease,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    automations.apply(settings)

    def away(**_: Any) -> Any:
        raise ConnectionError("Prefect is away")

    with monkeypatch.context() as broken:
        broken.setattr(events, "get_client", away)
        with pytest.raises(ConnectionError):
            a_minute(control, settings)
    (record,) = AlertStore(control).all()
    assert (record.kind, record.told_at) == (AlertKind.APPROVAL_OVERDUE, None)
    decide(control, waiting)  # and it is over before it could be told: both are told, in order
    told: list[bool] = []
    alert = events.alert
    with monkeypatch.context() as listening:
        listening.setattr(events, "alert", lambda record, over: (told.append(over), alert(record, over)))
        a_minute(control, settings)
    assert told == [False, True]
    # Prefect works at two events at once: the order in which it sends what they cause is its own.
    assert sorted(receiver.next()["subject"].startswith("Over") for _ in range(2)) == [False, True]
    assert receiver.silent


@pytest.mark.usefixtures("waiting")
def test_the_janitor_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(events, "alert", lambda record, over: told.append(f"{record.kind} {over}"))
    monkeypatch.setattr("tasks.recovery.give_owners", lambda *_: None)  # the shards do not exist
    monkeypatch.setattr("tasks.recovery.watch_over", lambda *_: None)
    monkeypatch.setattr("tasks.expiry.expire", lambda _: None)
    monkeypatch.setattr("tasks.zombies.mark_dead", lambda _: None)
    monkeypatch.setattr("tasks.recovery.restart", lambda *_: False)
    monkeypatch.setattr("tasks.recovery.clean_up", lambda *_: [])
    janitor(dry_run=True)
    assert told == []
    janitor()
    janitor()
    assert told == ["approval-overdue False"]


@pytest.mark.usefixtures("receiver")
def test_applying_twice_changes_nothing_and_what_was_switched_off_stays_off(
    settings: Settings, client: SyncPrefectClient
) -> None:
    assert {one.change for one in automations.apply(settings, dry_run=True)} == {"create"}
    assert {one.change for one in automations.state(settings)} == {"missing"}
    assert {one.change for one in automations.apply(settings)} == {"create"}
    assert {one.change for one in automations.apply(settings)} == {"keep"}
    name = f"{PREFIX}{KINDS[AlertKind.LAG].title}"
    (lag,) = client.read_automations_by_name(name)
    client.pause_automation(lag.id)
    other = with_alerts(settings, blocks=(BLOCK,), forecast_late_s=60)
    changed = {one.name: one.change for one in automations.apply(other) if one.change != "keep"}
    assert changed == {NO_FORECAST: "update"}
    nobody = with_alerts(settings)
    assert {one.change for one in automations.apply(nobody)} == {"update"}
    assert not client.read_automation(lag.id).enabled  # type: ignore[union-attr]
    assert {one.name: one.change for one in automations.state(nobody)}[name] == "disabled"
    assert len(automations.remove()) == len(KINDS) + 1
    assert automations.remove() == []


@pytest.mark.usefixtures("receiver")
@pytest.mark.parametrize("block", ["custom-webhook/nobody", "no-such-type/dba", "secret/no-notifier"])
def test_a_block_that_is_not_there_is_one_error_and_nothing_is_done(block: str, settings: Settings) -> None:
    Secret(value=TOKEN).save("no-notifier", overwrite=True)
    wrong = with_alerts(settings, blocks=(BLOCK, block))
    with pytest.raises(ConfigurationError, match=block) as refused:
        automations.apply(wrong)
    assert "no automation was changed" in str(refused.value)
    assert automations.remove() == []


@pytest.mark.usefixtures("settings")
def test_the_commands_show_no_secret(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    monkeypatch.setattr("deployments.prefect_client.use", lambda _: None)  # the harness' server is in use
    for command in ("apply --dry-run", "apply", "list", "list --json", "remove --dry-run"):
        said = CliRunner().invoke(app, ["automations", *command.split()])
        assert said.exit_code == 0, said.output
        assert TOKEN not in said.output
        assert receiver.url not in said.output
        assert f"{PREFIX}approval overdue" in said.output
    assert BLOCK in said.output


@pytest.mark.slow
def test_that_no_forecast_is_made_is_told_by_prefect_alone(settings: Settings, receiver: Receiver) -> None:
    automations.apply(with_alerts(settings, blocks=(BLOCK,), forecast_late_s=10))
    told = receiver.next(90)
    assert told["subject"] == "No forecast is made"
    assert "foreshard doctor" in told["body"]
