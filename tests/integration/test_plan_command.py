"""`foreshard plan` and `foreshard policy` on a real control database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from deployments import prefect_client
from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_picture import read_picture
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_picture import plan_picture, relieved
from foreshard.control.plan_store import PlanRecord, PlanStore
from foreshard.control.policy_store import PolicyStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.control.what_if import Compared
from foreshard.forecast.band import Band
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.load.sample import Sample
from foreshard.plan_plot import plan_png
from foreshard.planning.policy import DecisionPolicy
from foreshard.settings import Settings, load_settings
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.made_plans import NOW, RATE, made_decision, made_plan, made_risk

HOUR = timedelta(hours=1)
SHARDS = ("shard-1", "shard-2", "shard-3", "shard-4")
Call = Callable[..., Result]


def result(shard: str, level: float) -> ForecastResult:
    steps = pd.date_range(pd.Timestamp(NOW).floor("h"), periods=12, freq="h")
    band = Band(steps, np.full((12, 1), level) * np.array([0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]))
    peak = Peak(np.linspace(0.9, 1.4, len(PEAK_LEVELS)) * level)
    return ForecastResult(SeriesKey(shard, None, RATE), band, peak, "ets", {}, {}, 0.9, NOW, NOW, 9, "")


@pytest.fixture
def fleet(
    control: ControlDatabase, control_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ControlDatabase:
    """Two decisions: plans 1 and 2 of the first, of which the second keeps plan 1 and adds plan 3."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for name in SHARDS:
        topology.put_shard(ShardRecord(name, "host=a", "host=a", {RATE: 100.0}))
    buckets = tuple(f"b{number:04}" for number in range(10))
    samples = [Sample(NOW - ago * HOUR, "shard-3", one, RATE, 8.0) for ago in range(30) for one in buckets]
    LoadStore(control).add(samples, "live")
    topology.put_buckets(buckets, Placement(dict.fromkeys(buckets, "shard-3")))
    runs = [
        ForecastStore(control).save(
            NOW, [result("shard-3", 110.0), result("shard-4", 30.0)], step=HOUR,
            horizon_hours=12, live_samples_used=0, seconds=1.0,
        ).id
        for _ in range(2)
    ]  # fmt: skip
    kept = made_plan()
    store = PlanStore(control)
    store.save(
        made_decision(kept, made_plan(target="shard-2", buckets=("b0008",), after=(0,))),
        runs[0],
        DecisionPolicy(),
    )
    again = made_decision(
        kept,
        made_plan(target="shard-1", buckets=("b0009",), after=(0,)),
        risks=(made_risk("shard-3", 1.5, 0.9),),
    )
    store.save(again, runs[1], DecisionPolicy(max_migrations=3))
    return control


@pytest.fixture
def call(fleet: ControlDatabase) -> Call:
    del fleet
    return lambda *arguments, **more: CliRunner().invoke(app, list(arguments), **more)


def words(said: Result) -> str:
    return " ".join(said.output.split())


def test_list_and_explain(call: Call) -> None:
    listed = call("plan", "list")
    assert listed.exit_code == 0, listed.output
    rows = [line.split()[:3] for line in listed.output.splitlines()[1:4]]
    assert rows == [["3", "proposed", "relief"], ["2", "expired", "relief"], ["1", "proposed", "relief"]]
    assert [
        one["id"] for one in json.loads(call("plan", "list", "--state", "proposed", "--json").output)
    ] == [3, 1]
    said = words(call("plan", "explain", "3"))
    assert "Plan 3 of decision 2: proposed" in said
    assert "shard-3 is forecast to pass its capacity at Wed 27 Nov 18:00 UTC (probability 62 %)" in said
    assert "waits for the end of plan 1" in said.replace("│", "")
    assert "expired by decision 2 at" in words(call("plan", "explain", "2"))
    assert json.loads(call("plan", "explain", "2", "--json").output)["state"] == "expired"


def test_explain_a_decision(call: Call) -> None:
    said = words(call("plan", "explain", "--decision", "2"))
    assert "2 plans to move 78.0 MB; 1 of 1 shards may pass their capacity" in said
    assert "Plan 3. shard-3 is forecast" in said
    document = json.loads(call("plan", "explain", "--decision", "2", "--json").output)
    assert (document["plan_ids"], document["policy"]["max_migrations"]) == ([1, 3], 3)


def test_diff(call: Call) -> None:
    said = words(call("plan", "diff"))
    assert "Of the moved buckets 1 new, 1 gone, 5 as before." in said
    assert "policies that differ in max_migrations" in said
    document = json.loads(call("plan", "diff", "--decisions", "1", "2", "--json").output)
    assert document["added"] == [{"bucket": "b0009", "source": "shard-3", "target": "shard-1"}]
    plans = json.loads(call("plan", "diff", "2", "3", "--json").output)
    assert (plans["from"], plans["to"]) == ("plan 2", "plan 3")
    assert {one["field"] for one in plans["values"]} == {"target"}


def test_apply(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def start(control: ControlDatabase, record: PlanRecord) -> str:
        del control
        started.append(record.id)
        return "run-1"

    monkeypatch.setattr(prefect_client, "use", lambda _: None)
    monkeypatch.setattr(prefect_client, "start_plan", start)
    dry = call("plan", "apply", "1", "--dry-run")
    assert dry.exit_code == 0
    assert "waits for your approval before the cutover" in words(dry)
    refused = call("plan", "apply", "1", input="n\n")
    assert (refused.exit_code, started) == (1, [])
    assert "Nothing was started." in refused.output
    assert call("plan", "apply", "1", input="y\n").exit_code == 0
    assert json.loads(call("plan", "apply", "1", "--yes", "--json").output) == {
        "plan": 1,
        "started": True,
        "run": "run-1",
    }
    assert started == [1, 1]


def test_what_cannot_start(call: Call, fleet: ControlDatabase) -> None:
    waits = call("plan", "apply", "3", "--yes")
    assert waits.exit_code == 1
    assert "it waits for plan 1, which is proposed" in words(waits)
    assert "A newer forecast no longer supports it" in words(call("plan", "apply", "2", "--yes"))
    MigrationStore(fleet).open(1)
    PlanStore(fleet).recheck(1, 2, 0.004, supported=False)
    assert "By decision 2 it is not asked for any more" in words(call("plan", "explain", "1"))
    assert "`foreshard status` shows how far it is" in words(call("plan", "apply", "1", "--yes"))
    assert "it waits for plan 1, which is migrating" in words(call("plan", "apply", "3", "--dry-run"))


def test_reject(call: Call, fleet: ControlDatabase) -> None:
    assert call("plan", "reject", "3", "--as", " ").exit_code == 2
    assert call("plan", "reject", "3", "--as", "Ada", "--comment", "the promotion is off").exit_code == 0
    record = PlanStore(fleet).get(3)
    assert (record.state, record.closed_by, record.reason) == ("rejected", "Ada", "the promotion is off")
    again = call("plan", "reject", "3", "--as", "Ada")
    assert again.exit_code == 1
    assert "it is rejected" in words(again)
    assert "rejected by Ada at" in words(call("plan", "explain", "3"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("explain",), "give the number of a plan, or --decision N"),
        (("explain", "1", "--decision", "1"), "give the number of a plan, or --decision N"),
        (("explain", "9"), "There is no plan 9"),
        (("explain", "--decision", "9"), "There is no decision 9"),
        (("diff", "1"), "B: is missing"),
        (("apply", "1", "--json"), "--json: cannot ask"),
    ],
)
def test_what_cannot_be_asked(call: Call, arguments: tuple[str, ...], said: str) -> None:
    refused = call("plan", *arguments)
    assert refused.exit_code in (1, 2)
    assert said in words(refused)


def test_the_picture_of_a_stored_plan(fleet: ControlDatabase) -> None:
    settings: Settings = load_settings()
    # no fit is kept: it is drawn by the plan's numbers
    drawn = plan_picture(fleet, settings, PlanStore(fleet).get(1), forecast_again=True)
    assert drawn is not None
    assert (drawn.metric, drawn.source.shard, drawn.target.shard) == (RATE, "shard-3", "shard-4")
    before = drawn.source.band.at(0.9)
    assert drawn.source.then == pytest.approx(before * 0.846 / 1.21)
    assert drawn.source.then + drawn.target.then == pytest.approx(before + drawn.target.band.at(0.9))
    assert plan_png(drawn).startswith(b"\x89PNG")
    assert plan_picture(fleet, settings, PlanStore(fleet).get(3)) is None, "no forecast of shard-1"


def test_the_picture_of_a_forecast_with_plans(fleet: ControlDatabase) -> None:
    """Each plan of that source leaves its share of what the one before it left; others change nothing."""
    settings: Settings = load_settings()
    plan, forecast = PlanStore(fleet).get(1), ForecastStore(fleet)
    record = forecast.get(PlanStore(fleet).decision(plan.decision_id).forecast_run_id)
    source, target = (
        read_picture(fleet, settings, record, found)
        for shard in ("shard-3", "shard-4")
        if (found := forecast.result(record.id, SeriesKey(shard, None, RATE))) is not None
    )
    other = replace(plan, id=8, plan=made_plan("shard-4", "shard-1"))
    drawn = relieved(source, [plan, other, replace(plan, id=9)]).relieved
    assert drawn is not None
    assert (drawn.plans, drawn.done_at) == ((1, 9), plan.plan.timeline.ends_at)
    assert drawn.values == pytest.approx(source.result.band.at(0.9) * (0.846 / 1.21) ** 2)
    assert relieved(target, [plan]) is target


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for the Prefect Variable."""
    held: dict[str, Any] = {}

    def write(settings: Settings, overrides: dict[str, Any]) -> None:
        del settings
        held.clear()
        held.update(overrides)

    monkeypatch.setattr(prefect_client, "policy_overrides", lambda _: dict(held) or None)
    monkeypatch.setattr(prefect_client, "override_policy", write)
    return held


def test_policy(
    call: Call, fleet: ControlDatabase, variable: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_DECISION__KNEE", "0.7")
    dry = call("policy", "set", "relief_probability=0.1", "--dry-run")
    assert "relief_probability: 0.05 → 0.1" in dry.output
    assert variable == {}
    assert (
        call(
            "policy", "set", "relief_probability=0.1", 'windows=["Mon-Fri 22:00-06:00"]', "--as", "Ada"
        ).exit_code
        == 0
    )
    assert variable == {"relief_probability": 0.1, "windows": ["Mon-Fri 22:00-06:00"]}
    of = {one["field"]: one for one in json.loads(call("policy", "show", "--json").output)}
    layers = {name: of[name]["layer"] for name in ("relief_probability", "knee", "epsilon")}
    assert layers == {"relief_probability": "variable", "knee": "settings", "epsilon": "default"}
    assert (of["relief_probability"]["value"], of["knee"]["value"]) == (0.1, 0.7)
    assert "above 0 to 1" in call("policy", "show").output
    unset = json.loads(call("policy", "unset", "windows", "--as", "Ada", "--json").output)
    assert unset["changed"] == {"windows": {"before": ["Mon-Fri 22:00-06:00"], "after": []}}
    assert variable == {"relief_probability": 0.1}
    newest, *_ = PolicyStore(fleet).changes()
    assert (newest.who, dict(newest.after)) == ("Ada", {})
    history = call("policy", "history")
    assert "relief_probability" in history.output
    assert json.loads(call("policy", "history", "--last", "1", "--json").output)[0]["who"] == "Ada"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "knee=2"), "knee: Input should be less than or equal to 1"),
        (("set", "knees=0.5"), "knees: is no field of the policy"),
        (("set", "knee"), "has no name and value"),
        (("set", "knee=0.5", "knee=0.6"), "is given twice"),
        (("set", "policy=guess"), "policy: Input should be 'probabilistic' or 'threshold'"),
        (("unset", "knee"), "knee: is not overridden"),
        (("set", "knee=0.5", "--as", ""), "--as: is empty"),
    ],
)
@pytest.mark.usefixtures("variable")
def test_a_policy_that_cannot_be(call: Call, arguments: tuple[str, ...], said: str) -> None:
    refused = call("policy", *arguments)
    assert refused.exit_code == 2
    assert said in words(refused)


def test_the_picture_forecast_again(fleet: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """What moving changes in a forecast of now is put on the stored one; past steps change as the first of now does."""

    def forecast_of_now(*_: object) -> list[Compared]:
        found = []
        for shard, present, then in (("shard-3", 100.0, 60.0), ("shard-4", 20.0, 60.0)):
            ends = [result(shard, level) for level in (present, then)]
            later = [
                replace(one, band=Band(one.band.ts[2:], one.band.quantiles[2:])) for one in ends
            ]  # two hours have gone by
            found.append(Compared(shard, RATE, 100.0, *later))
        return found

    monkeypatch.setattr("foreshard.control.plan_picture.what_if", forecast_of_now)
    drawn = plan_picture(fleet, load_settings(), PlanStore(fleet).get(1), forecast_again=True)
    assert drawn is not None
    assert drawn.source.then == pytest.approx(drawn.source.band.at(0.9) - 40 * 1.2)
    assert drawn.target.then == pytest.approx(drawn.target.band.at(0.9) + 40 * 1.2)
