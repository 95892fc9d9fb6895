"""What the doctor says of alerts: that nobody would be told is found before somebody should be."""

from __future__ import annotations

import pytest

from foreshard.alerts.alert_settings import AlertSettings
from foreshard.doctor import alerts
from foreshard.doctor.prefect_api import Automation

EXPECTED = ("foreshard: lag", "foreshard: no forecast is made")
THERE = [Automation(name, True, "") for name in EXPECTED]
BLOCK = AlertSettings(blocks=("slack-webhook/dba",))


def test_alerts_that_notify_somebody_are_in_order() -> None:
    (finding,) = alerts.judge(BLOCK, [*THERE, Automation("somebody else's", False, "")], EXPECTED)
    assert finding.severity == "ok"
    assert finding.what == "2 automations notify by slack-webhook/dba"


@pytest.mark.parametrize(
    ("settings", "there", "says"),
    [
        (BLOCK, [], "no automation of ours alerts"),
        (BLOCK, THERE[:1], "not in Prefect: 'foreshard: no forecast is made'"),
        (AlertSettings(), THERE, "notify nobody"),
    ],
)
def test_each_fault_is_worth_knowing(settings: AlertSettings, there: list[Automation], says: str) -> None:
    (finding,) = alerts.judge(settings, there, EXPECTED)
    assert finding.severity == "warn"
    assert says in finding.what
    assert finding.remedy


def test_both_faults_are_told() -> None:
    assert len(alerts.judge(AlertSettings(), [], EXPECTED)) == 2
