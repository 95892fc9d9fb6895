"""Before which flips a person is asked, and what is said where nobody is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from foreshard.migration.approval_policy import asking, guarded
from foreshard.migration.approval_settings import ApprovalSettings


@pytest.mark.parametrize(
    ("settings", "risk", "cutover", "wanted"),
    [
        ({}, 0.0, True, True),
        ({}, 9.0, False, False),
        ({"before": "every_flip"}, 0.0, False, True),
        ({"before": "never"}, 9.0, True, False),
        ({"below_risk": 0.1}, 0.05, True, False),
        ({"below_risk": 0.1}, 0.1, True, True),  # not below
        ({"below_risk": 0.1}, None, True, True),  # it is not known
        ({"below_risk": 0.1, "before": "every_flip"}, 0.05, False, False),
        ({"below_risk": 0.0}, -0.2, True, False),
        ({"below_risk": 0.0}, 0.0, True, True),
    ],
)
def test_who_is_asked(settings: dict[str, Any], risk: float | None, cutover: bool, wanted: bool) -> None:
    found = asking(ApprovalSettings(**settings), risk, cutover=cutover)
    assert found.wanted is wanted
    assert found.policy == settings.get("before", "cutover_only")
    if "below_risk" in settings and not wanted:
        assert f"a risk of {risk:.4g}, below approval.below_risk = {settings['below_risk']:g}" in found.why


def test_checks_are_wanted_wherever_the_policy_looks_whoever_is_asked() -> None:
    assert guarded(ApprovalSettings(before="never"), cutover=True)
    assert not guarded(ApprovalSettings(), cutover=False)
    assert guarded(ApprovalSettings(before="every_flip", below_risk=5.0), cutover=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"below_risk": -1},
        {"below_risk": float("inf")},
        {"below_risk": float("nan")},
        {"timeout_s": 0},
        {"befor": "never"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ApprovalSettings(**wrong)
