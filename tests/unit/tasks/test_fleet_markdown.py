"""The front page: whatever the fleet looks like, it can be read, and strangers' names are no markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import mistune
import pytest

from foreshard.control.migration_store import MigrationRecord
from foreshard.control.plan_store import DecisionRecord, PlanRecord
from foreshard.control.topology_store import ShardRecord
from foreshard.migration.lifecycle import ENDS, Stage
from tasks.fleet_markdown import LISTED, SHOWN, FleetFacts, as_markdown, description, keys
from tests.made_plans import NOW, RATE, made_decision, made_plan, made_risk

EVIL = "<script>alert(1)</script>|'`x`\"[y](http://example.com) Straße-Ω-" + "ä" * 80
RUN = "6b0b0a1e-4b1c-4f0e-9a51-0c9f5f7f0001"
ID = UUID("6b0b0a1e-4b1c-4f0e-9a51-0c9f5f7f0002")


def to_html(markdown: str) -> str:
    return str(mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])(markdown))


def shard(name: str) -> ShardRecord:
    return ShardRecord(name, "host=x", "host=x", {RATE: 100.0})


def migration(number: int, stage: Stage, source: str = "shard-3", **more: object) -> MigrationRecord:
    made = MigrationRecord(
        id=number, plan_id=5, source=source, target="shard-4", buckets=("b0000", "b0001"), stage=stage, step=0, bound=0,
        flip_no=0, shadow_percent=0.0, waiting_for=None, failure=None, attempts=1, flow_run_id=RUN, facts={},
        created_at=NOW, finished_at=NOW if stage in ENDS else None,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture
def facts() -> FleetFacts:
    """Four shards, a decision with one plan that waits for its time, a migration that asks, one that ended."""
    plan = made_plan()
    return FleetFacts(
        now=NOW,
        timezone="America/New_York",
        shards=[shard(f"shard-{number}") for number in range(1, 5)],
        present={"shard-3": {RATE: 68.0}, "shard-1": {RATE: 34.0}},
        buckets={"shard-1": 12, "shard-3": 1_200},
        decision=DecisionRecord(7, 12, made_decision(plan), {}, (5,)),
        plans=[PlanRecord(6, 7, "proposed", plan, NOW), PlanRecord(5, 7, "migrating", plan, NOW)],
        migrations=[
            migration(3, Stage.CUTOVER, waiting_for="approval"), migration(2, Stage.DONE), migration(1, Stage.REVERSED)
        ],
    )  # fmt: skip


def test_what_waits_comes_first_and_leads_to_the_form(facts: FleetFacts) -> None:
    text = as_markdown(facts, {})
    assert text.startswith("# Fleet at Wed 27 Nov 10:10 EST\n")
    waits = text[text.index("## Waits") : text.index("## Under way")]
    assert "**Migration 3 waits for your approval** at cutover, shard-3 → shard-4" in waits
    assert f"](../../runs/flow-run/{RUN}) and press **Resume**." in waits
    assert "✓ write redirect → **▶ cutover** → soak" in text
    assert description(facts).endswith(
        "1 migration waiting for a person, 1 migration under way, 1 plan proposed"
    )


def test_shards_in_need_come_first_with_their_forecast_and_plan(facts: FleetFacts) -> None:
    known = {"forecast-shard-3-queries-per-s": ID, "plan-5": ID}
    rows = [line for line in as_markdown(facts, known).splitlines() if line.startswith("| ")][1:]
    assert rows[0] == (
        f"| [shard-3](../../artifacts/artifact/{ID}) | 1,200 | 68 % queries/s | 121 % | **Wed 13:00** | 62 % | "
        f"[plan 5](../../artifacts/artifact/{ID}) |"
    )
    assert "| shard-2 | 0 | not measured | 50 % | never | 0 % |  |" in rows
    assert known.keys() <= set(keys(facts))


def test_plans_and_ended_migrations_are_linked(facts: FleetFacts) -> None:
    text = as_markdown(facts, {})
    assert (
        "- [Plan 6](../../artifacts/key/plan-6): shard-3 → shard-4, 5 buckets, 39.0 MB, starts Wed 10:10"
        in text
    )
    ended = text[text.index("## Ended last") :].splitlines()[2:]
    assert ended[0].startswith("- [Migration 2](../../artifacts/key/migration-2-report)")
    assert ended[1].endswith("**reversed**")


def test_a_migration_that_failed_says_why_and_what_to_do(facts: FleetFacts) -> None:
    failed = migration(4, Stage.BACKFILL, failure=f"disk full: {EVIL}")
    text = as_markdown(replace(facts, migrations=[failed]), {})
    assert "**Migration 4 failed** at backfill" in text
    assert "start *migrate* with this number to go on, or *reverse*" in text
    assert "<script" not in to_html(text)


def test_an_empty_fleet_says_what_to_do() -> None:
    text = as_markdown(FleetFacts(NOW, "UTC", [], {}, {}, None, [], []), {})
    assert "foreshard adopt" in text
    assert "No migration." in text
    assert "Nothing is to be moved." in text
    begun = FleetFacts(NOW, "UTC", [shard("a")], {}, {}, None, [], [])
    assert "start *forecast*; *decide* follows by itself" in as_markdown(begun, {})


def test_two_hundred_shards_and_migrations_are_cut_and_counted(facts: FleetFacts) -> None:
    names = [f"shard-{number}" for number in range(200)]
    large = replace(
        facts,
        shards=[shard(name) for name in names],
        decision=DecisionRecord(
            7, 12, made_decision(risks=tuple(made_risk(one, 1.3, 0.5) for one in names)), {}, ()
        ),
        migrations=[migration(number, Stage.CUTOVER, waiting_for="approval") for number in range(1, 41)],
    )
    text = as_markdown(large, {})
    assert f"... and {200 - SHOWN} more shards, less at risk." in text
    assert text.count(f"... and {40 - LISTED} more migrations.") == 2
    assert len(text) < 20_000
    assert len(keys(large)) < 120


def test_names_are_no_markup(facts: FleetFacts) -> None:
    plan = made_plan(source=EVIL, target="shard-4")
    evil = replace(
        facts,
        shards=[shard(EVIL)],
        decision=DecisionRecord(7, 12, made_decision(plan, risks=(made_risk(EVIL, 1.3, 0.5),)), {}, (5,)),
        plans=[PlanRecord(6, 7, "proposed", plan, NOW)],
        migrations=[
            migration(3, Stage.CUTOVER, EVIL, waiting_for="approval"),
            migration(2, Stage.DONE, EVIL),
        ],
    )
    html = to_html(as_markdown(evil, {}))
    assert "<script" not in html
    assert "<code>" not in html
    assert "http://example.com" not in [part.split('"')[0] for part in html.split('href="')[1:]]
    assert html.count("<td") == 7


def test_a_plan_of_long_ago_has_a_past_start(facts: FleetFacts) -> None:
    late = made_plan(start=NOW - timedelta(hours=3))
    text = as_markdown(replace(facts, plans=[PlanRecord(6, 7, "proposed", late, NOW)]), {})
    assert "starts Wed 07:10" in text
