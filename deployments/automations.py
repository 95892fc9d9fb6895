"""Foreshard's automations in Prefect, as code: each kind of alert notifies by the configured blocks.

They are known by their names; applying them again changes nothing. `decide` after each forecast is not among them: it
is a trigger of its deployment.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from foreshard.alerts.alert import KINDS
from foreshard.alerts.alert_settings import AlertSettings
from foreshard.errors import ConfigurationError, ForeshardError
from foreshard.settings import Settings
from tasks.events import FORECAST_COMPLETED, alert_began, alert_ended

PREFIX = "foreshard: "
TAG = "foreshard"
NO_FORECAST = f"{PREFIX}no forecast is made"

SUBJECT = "{% if event.payload.state == 'over' %}Over: {% endif %}{{ event.payload.title }}"
BODY = """\
{{ event.payload.text }}
{% if event.payload.remedy %}
What to do: {{ event.payload.remedy }}
{% endif %}
Since: {{ event.payload.began_at }}
{% if event.payload.run_url %}Run: {{ event.payload.run_url }}
{% endif %}"""

Change = Literal["create", "update", "keep", "remove", "missing", "disabled", "differs", "applied"]


@dataclass(frozen=True)
class Told:
    """An automation by name, and what is, or was, to be done with it. ``blocks``: by which it notifies."""

    name: str
    change: Change
    blocks: tuple[str, ...]
    text: str


def apply(settings: Settings, *, dry_run: bool = False) -> list[Told]:
    """Bring Prefect's automations to what this version and the settings want; one that was switched off stays off.

    Ours that this version does not know any more are removed. Blocks are looked up before anything is changed.

    Raises:
        ConfigurationError: a block of ``alerts.blocks`` is not there, or cannot notify.
        ForeshardError: Prefect does not answer.
    """
    with _client() as client:
        made = wanted(settings.alerts, [_block(client, name) for name in settings.alerts.blocks])
        present = _ours(client)
        done = []
        for one in made:
            there = present.pop(one.name, None)
            change = _change(there, one)
            done.append(Told(one.name, change, settings.alerts.blocks, one.description))
            if dry_run or change == "keep":
                continue
            if there is None:
                client.create_automation(one)
            else:
                client.update_automation(there.id, one.model_copy(update={"enabled": there.enabled}))
        return [*done, *_remove(client, present.values(), dry_run)]


def state(settings: Settings) -> list[Told]:
    """What of them is there. Raises as `apply`, but for blocks: ``blocks`` are those in the settings."""
    with _client() as client:
        present = _ours(client)
    found = []
    for one in wanted(settings.alerts, []):
        there = present.get(one.name)
        change: Change = "missing"
        if there is not None:
            known = there.trigger == one.trigger and len(there.actions) == len(settings.alerts.blocks)
            change = ("applied" if known else "differs") if there.enabled else "disabled"
        found.append(Told(one.name, change, settings.alerts.blocks, one.description))
    return found


def remove(*, dry_run: bool = False) -> list[Told]:
    """Delete all of ours. Raises ForeshardError if Prefect does not answer."""
    with _client() as client:
        return _remove(client, _ours(client).values(), dry_run)


def apply_on_serve(settings: Settings) -> None:
    """Applies them unless told not to. Where that cannot be it says why: serving goes on without."""
    if not settings.alerts.automations:
        return
    try:
        apply(settings)
    except ForeshardError as error:
        text = f"The automations of alerts are not applied: {error.message} {error.remedy or ''}"
        print(text.rstrip(), file=sys.stderr, flush=True)


def wanted(settings: AlertSettings, blocks: Sequence[UUID]) -> list[AutomationCore]:
    """All automations, notifying by these blocks. Without any they show in the UI that they fired, and tell nobody."""
    made = []
    for kind, words in KINDS.items():
        trigger = EventTrigger(
            expect={alert_began(kind), alert_ended(kind)},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        )
        text = words.meaning.replace("`", "")
        made.append(_automation(f"{PREFIX}{words.title}", text, trigger, _notify(blocks, SUBJECT, BODY)))
    window = timedelta(seconds=2 * settings.forecast_late_s)
    absent = EventTrigger(expect={FORECAST_COMPLETED}, posture=Posture.Proactive, threshold=1, within=window)
    hours = f"{window.total_seconds() / 3600:g} h"
    text = f"No forecast was completed for {hours}: the flows may not run at all, the janitor among them."
    remedy = "What to do: see whether `foreshard serve` or the workers run; `foreshard doctor` looks closer."
    notify = _notify(blocks, "No forecast is made", f"{text}\n\n{remedy}\n")
    made.append(_automation(NO_FORECAST, text, absent, notify))
    return made


def _automation(
    name: str, text: str, trigger: EventTrigger, actions: list[SendNotification]
) -> AutomationCore:
    return AutomationCore(
        name=name, description=text, enabled=True, tags=[TAG], trigger=trigger, actions=list(actions)
    )


def _notify(blocks: Sequence[UUID], subject: str, body: str) -> list[SendNotification]:
    return [SendNotification(block_document_id=one, subject=subject, body=body) for one in blocks]


def _change(there: Automation | None, one: AutomationCore) -> Change:
    if there is None:
        return "create"
    same = (
        there.trigger == one.trigger
        and there.actions == one.actions
        and there.description == one.description
        and there.tags == one.tags
    )
    return "keep" if same else "update"


def _remove(client: SyncPrefectClient, ours: Iterable[Automation], dry_run: bool) -> list[Told]:
    gone = []
    for one in ours:
        gone.append(Told(one.name, "remove", (), one.description))
        if not dry_run:
            client.delete_automation(one.id)
    return gone


PAGE = 200


def _ours(client: SyncPrefectClient) -> dict[str, Automation]:
    """By name. Somebody else's may bear our prefix, not our tag too."""
    found: dict[str, Automation] = {}
    offset = 0
    while page := client.read_automations(limit=PAGE, offset=offset):
        found |= {one.name: one for one in page if one.name.startswith(PREFIX) and TAG in one.tags}
        offset += len(page)
    return found


def _block(client: SyncPrefectClient, block: str) -> UUID:
    kind, _, name = block.partition("/")
    try:
        document = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound:
        raise ConfigurationError(
            "alerts.blocks",
            f"there is no block {block} in Prefect",
            remedy="Make it in the UI under Blocks, or correct its name; no automation was changed.",
        ) from None
    schema = document.block_schema
    if schema is None or "notify" not in schema.capabilities:
        raise ConfigurationError(
            "alerts.blocks",
            f"{block} is no notification block",
            remedy="Name one that can notify, e.g. of type slack-webhook; no automation was changed.",
        )
    return document.id


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPError as problem:
        raise ForeshardError(
            f"Prefect does not do as asked: {type(problem).__name__}: {problem}".splitlines()[0],
            remedy="Check that its server runs, and apply the automations again.",
        ) from None
