"""What the doctor says of Prefect's server and of our deployments: each fault, alone, is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from foreshard.doctor import prefect, prefect_api
from foreshard.doctor.finding import Finding
from foreshard.doctor.prefect import Expected
from foreshard.doctor.prefect_api import Automation, Pool, PrefectFacts, Registered

EXPECTED = [
    Expected("collect", "flows.collect.collect", ("foreshard", "observe"), 60.0, 1, None),
    Expected("decide", "flows.decide.decide", ("foreshard", "plan"), None, 1, "decide after forecast"),
]
COLLECT = Registered(
    "collect", "flows.collect.collect", ("foreshard", "observe"), 60.0, False, 1, 0, 0, 2.0, None
)
DECIDE = Registered("decide", "flows.decide.decide", ("foreshard", "plan"), None, False, 1, 1, 1, 2.0, None)
TRIGGER = Automation("decide after forecast", True, "")
FACTS = PrefectFacts("3.8.8", False, "storage.filesystem", 0, 40, (COLLECT, DECIDE), (TRIGGER,), ())


def found(facts: PrefectFacts, client: str = "3.8.8") -> list[Finding]:
    return [
        one
        for one in (
            *prefect.judge(facts, client, "http://p/api"),
            *prefect.judge_deployments(facts, EXPECTED),
        )
        if one.severity != "ok"
    ]


def test_what_is_in_order_is_no_finding() -> None:
    assert found(FACTS) == []


def served(**changes: Any) -> PrefectFacts:
    return replace(FACTS, deployments=(replace(COLLECT, **changes), DECIDE))


@pytest.mark.parametrize(
    ("facts", "severity", "says"),
    [
        (replace(FACTS, version="3.9.1"), "wrong", "server is 3.9.1, the client here 3.8.8"),
        (replace(FACTS, sqlite=True), "wrong", "SQLite"),
        (replace(FACTS, leases="lease_storage.memory"), "warn", "forgets at a restart"),
        (replace(FACTS, ahead=0), "wrong", "scheduler makes no runs"),
        (replace(FACTS, late=40), "wrong", "40 runs are late"),
        (replace(FACTS, deployments=()), "wrong", "no flow is deployed"),
        (replace(FACTS, deployments=(COLLECT,)), "wrong", "not deployed: decide"),
        (replace(FACTS, automations=()), "wrong", "'decide after forecast' is not there"),
        (replace(FACTS, automations=(replace(TRIGGER, enabled=False),)), "wrong", "decide never starts"),
        (replace(FACTS, automations=(TRIGGER, TRIGGER)), "warn", "2 automations are called"),
        (
            replace(FACTS, automations=(TRIGGER, Automation("Foreshard: lag", False, ""))),
            "warn",
            "'Foreshard: lag' is disabled",
        ),
        (served(entrypoint="flows/collect.py:collect"), "wrong", "collect runs flows/collect.py:collect"),
        (served(tags=("old",)), "warn", "as another version had it"),
        (served(limit=None), "warn", "as another version had it"),
        (served(interval_s=300.0), "warn", "every 300 s, this version has 60"),
        (served(interval_s=None), "wrong", "collect has no schedule"),
        (served(paused=True), "warn", "the schedule of collect is paused"),
        (served(used=1), "wrong", "1 of 1 place(s) of collect are held by no run"),
        (
            replace(FACTS, deployments=(replace(COLLECT, polled_ago_s=None), replace(DECIDE, polled_ago_s=300.0))),
            "wrong",
            "nobody has asked for runs for 300 s",
        ),
        (replace(FACTS, pools=(Pool("foreshard", True, 1.0),)), "wrong", "work pool foreshard is paused"),
        (replace(FACTS, pools=(Pool("foreshard", False, None),)), "wrong", "was heard of ever"),
        (replace(FACTS, pools=(Pool("foreshard", False, 200.0),)), "wrong", "was heard of for 200 s"),
    ],
)  # fmt: skip
def test_each_fault_is_found(facts: PrefectFacts, severity: str, says: str) -> None:
    (finding,) = (one for one in found(facts) if says in one.what)
    assert finding.severity == severity
    assert finding.remedy


@pytest.mark.parametrize(("sqlite", "escaped"), [(True, 0), (False, 1)])
def test_the_database_is_told_by_what_a_backslash_means_there(sqlite: bool, escaped: int) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/api/admin/version":
            return httpx.Response(200, json="3.8.8")
        if request.url.path == "/api/admin/settings":
            return httpx.Response(200, json={"server": {}})
        if request.url.path == "/api/flows/count":
            return httpx.Response(200, json=escaped if rb"\\collect" in request.content else 1)
        return httpx.Response(200, json=0 if request.url.path.endswith("count") else [])

    facts = prefect_api.read("http://p/api", "main", httpx.MockTransport(answer))
    assert facts.sqlite is sqlite
    assert "/api/deployments/filter" in asked


@pytest.mark.parametrize(("taken_then", "orphaned"), [(0, 0), (1, 1)])
def test_a_run_that_ends_between_two_questions_has_left_no_place_behind(
    taken_then: int, orphaned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_api, "LOOK_AGAIN_S", 0.0)
    limit = {"id": "d", "flow_id": "f", "name": "main", "global_concurrency_limit": {"limit": 1}}

    def deployment(taken: int) -> dict[str, Any]:
        return limit | {"global_concurrency_limit": {"limit": 1, "active_slots": taken}}

    def answer(request: httpx.Request) -> httpx.Response:
        said: dict[str, Any] = {
            "/api/admin/version": "3.8.8",
            "/api/admin/settings": {},
            "/api/deployments/filter": [deployment(1)],
            "/api/deployments/d": deployment(taken_then),
        }
        empty = 0 if request.url.path.endswith("count") else []
        return httpx.Response(200, json=said.get(request.url.path, empty))

    (found,) = prefect_api.read("http://p/api", "main", httpx.MockTransport(answer)).deployments
    assert (found.limit, found.used - found.holding) == (1, orphaned)


def test_without_an_address_there_is_nothing_to_ask() -> None:
    (finding,) = prefect.examine(None, "main", lambda: EXPECTED, list)
    assert finding.what == "prefect.api_url is not set"
