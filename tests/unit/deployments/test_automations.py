"""Automations as they are made, without a server."""

from __future__ import annotations

from uuid import uuid4

from jinja2 import Environment, StrictUndefined
from prefect.events.schemas.automations import EventTrigger, Posture

from deployments.automations import BODY, NO_FORECAST, PREFIX, SUBJECT, wanted
from foreshard.alerts.alert import KINDS
from foreshard.alerts.alert_settings import AlertSettings
from tasks.events import FORECAST_COMPLETED, alert_began, alert_ended


def test_each_kind_has_one_that_hears_its_onset_and_its_end() -> None:
    made = {one.name: one for one in wanted(AlertSettings(), [uuid4(), uuid4()])}
    assert len(made) == len(KINDS) + 1
    for kind, words in KINDS.items():
        one = made[f"{PREFIX}{words.title}"]
        assert isinstance(one.trigger, EventTrigger)
        assert one.trigger.expect == {alert_began(kind), alert_ended(kind)}
        assert len(one.actions) == 2
        assert "`" not in one.description
    absent = made[NO_FORECAST].trigger
    assert isinstance(absent, EventTrigger)
    assert (absent.posture, absent.expect) == (Posture.Proactive, {FORECAST_COMPLETED})
    assert absent.within.total_seconds() == 2 * AlertSettings().forecast_late_s


def test_without_a_block_they_tell_nobody() -> None:
    assert [one.actions for one in wanted(AlertSettings(), [])] == [[]] * (len(KINDS) + 1)


def test_the_template() -> None:
    templates = Environment(undefined=StrictUndefined)
    payload = {
        "title": "migration 7 (a to b): approval overdue", "state": "began", "text": "It waits.",
        "remedy": "Approve it.", "began_at": "2026-03-02 10:00 UTC", "run_url": "http://prefect/runs/1",
    }  # fmt: skip

    def said(template: str, **changed: str) -> str:
        return templates.from_string(template).render(event={"payload": payload | changed})

    assert said(SUBJECT) == payload["title"]
    assert said(SUBJECT, state="over") == f"Over: {payload['title']}"
    assert said(BODY).splitlines() == [
        "It waits.", "", "What to do: Approve it.", "", "Since: 2026-03-02 10:00 UTC", "Run: http://prefect/runs/1",
    ]  # fmt: skip
    assert said(BODY, remedy="", run_url="").split() == [
        "It",
        "waits.",
        "Since:",
        "2026-03-02",
        "10:00",
        "UTC",
    ]
