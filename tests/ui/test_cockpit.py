"""A person with a browser and nothing else: forecasts, decides, reads, rejects, approves, reverses.

One story on one stack, in the order of the tests; where one fails, those after it have no ground to stand on. Pictures
of every station are kept in `build/ui/`, light and dark. It is told in V2, the UI that one is led to; V1 dry-runs
`decide`, reads artifacts and approves. `make test-ui` runs it.
"""

from __future__ import annotations

import pytest

from deployments.demo_settings import TIMEZONE
from foreshard.control.flip_store import FlipStore
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.plan_store import DecisionRecord, PlanStore
from foreshard.fleet.airline import initial_placement
from foreshard.markdown import shortened
from foreshard.migration.lifecycle import Stage
from foreshard.topology.keys import SLOTS
from tasks import fleet_time
from tests.ui.artifact_page import ArtifactPage
from tests.ui.cockpit import SOAK_S, STANDING_THRESHOLD, Cockpit
from tests.ui.conftest import Heard
from tests.ui.deployments_page import DeploymentsPage
from tests.ui.prefect_ui import PrefectUI
from tests.ui.run_page import A_STEP_S, RunPage
from tests.ui.waiting import until

pytestmark = pytest.mark.ui

AT_RISK, EMPTY = "shard-3", "shard-4"
ACTIVITY = "queries/s"
THRESHOLD = "Risk: migration threshold"
FORECAST_S = 300.0
MOVED_S = 300.0
"""Of many steps: from the start of a migration to the question before its cutover, or from there to the soak."""

LONG_NAME = "orders-and-invoices-of-the-north-western-region-primary-2031"
PHONES_HOME = {"sr-client-cfg.amplitude.com"}
"""V2 of Prefect 3.8.8 asks it for its analytics' configuration before it looks whether analytics are on. They are off:
nothing is ever sent. No name but loopback resolves here, so that the UI is also shown to work without it."""


def test_both_uis_list_every_deployment(v1: PrefectUI, v2: PrefectUI) -> None:
    v2.page.wait_for_url("**/v2/**")  # where the address that a person is told leads to
    for ui in (v2, v1):
        page = DeploymentsPage(ui)
        for flow in (
            "collect",
            "forecast",
            "decide",
            "migrate",
            "pause",
            "reverse",
            "verify",
            "janitor",
            "calendar-edit",
        ):
            page.row(flow).wait_for()
        ui.station("deployments")


def test_a_forecast_says_which_shard_will_saturate_and_when(v2: PrefectUI, stack: Cockpit) -> None:
    form = DeploymentsPage(v2).custom_run("forecast")
    form.field("horizon_hours").wait_for()
    v2.station("forecast-form")
    run = form.submit()
    run.wait_for("Completed", timeout_s=FORECAST_S)
    v2.station("forecast-run")
    decided = until("decide follows", lambda: PlanStore(stack.control).decision_after(0), A_STEP_S)

    at_risk = next(risk for risk in decided.decision.risks if risk.shard == AT_RISK)
    assert at_risk.excess_at is not None
    table = run.artifact("forecast")
    row = table.row(AT_RISK, ACTIVITY)
    v2.station("forecast-artifact")
    assert fleet_time.hour(at_risk.excess_at, TIMEZONE) in row
    of_shard = run.artifact(f"forecast-{AT_RISK}-queries-per-s")
    crossing = f"passes its capacity on {fleet_time.moment(at_risk.excess_at, TIMEZONE)}"
    assert crossing in of_shard.picture()
    v2.station("forecast-shard")

    assert decided.policy["migration_threshold"] == STANDING_THRESHOLD
    assert decided.plan_ids == ()
    assert MigrationStore(stack.control).all() == []


def test_a_dry_run_of_decide_stores_nothing(v1: PrefectUI, stack: Cockpit) -> None:
    before = _newest_decision(stack)
    form = DeploymentsPage(v1).custom_run("decide")
    form.set(THRESHOLD, "0.05")
    v1.station("decide-form")
    form.switch("dry_run")
    run = form.submit()
    run.wait_for("Completed")
    shown = run.artifact("decision-dry-run")
    shown.body.get_by_role("heading", name=f"from {AT_RISK} to {EMPTY}").first.wait_for()
    v1.station("dry-run-artifact")
    table = ArtifactPage.of_key(v1, "forecast")
    assert len(table.row(AT_RISK, ACTIVITY)) == 6
    v1.station("forecast-artifact")
    assert _newest_decision(stack).id == before.id
    assert MigrationStore(stack.control).all() == []


def test_a_rejected_migration_is_undone(v2: PrefectUI, stack: Cockpit) -> None:
    migration = _decide(v2, stack, 0.05)
    run = RunPage.of_deployment(v2, "migrate", _run_name(migration))
    run.wait_for("Suspended", MOVED_S)
    v2.station("migrate-waits")
    form = run.resume()
    v2.station("approval-evidence")
    _require_evidence(stack, migration, form.headings())
    assert "with the plan done" in form.picture()
    form.show_fields()
    v2.station("approval-fields")
    form.require_refusal("decision")
    v2.station("approval-empty")
    assert MigrationStore(stack.control).get(migration.id).waiting_for == "approval"
    form.answer("reject", "Ada Lovelace", "Not on the evening before Thanksgiving.")
    run.wait_for("Cancelled")
    v2.station("rejected")

    assert _stage(stack, migration) is Stage.ABORTED
    assert stack.owners() == initial_placement().of
    assert stack.left_over() == []
    assert stack.words(migration.id) == [("rejected", "Ada Lovelace")]


def test_an_approved_migration_can_be_reversed_while_it_soaks(
    v1: PrefectUI, v2: PrefectUI, stack: Cockpit
) -> None:
    migration = _decide(v2, stack, 0.06)
    run = RunPage.of_deployment(v1, "migrate", _run_name(migration))
    run.wait_for("Suspended", MOVED_S)
    v1.station("migrate-waits")
    form = run.resume()
    v1.station("approval-evidence")
    _require_evidence(stack, migration, form.headings())
    assert "with the plan done" in form.picture()
    form.show_fields()
    form.require_refusal("decision")
    v1.station("approval-empty")
    form.answer("approve", "Grace Hopper")
    until("it soaks", lambda: _stage(stack, migration) is Stage.SOAK or None, MOVED_S)
    v1.station("soak")
    assert MigrationStore(stack.control).get(migration.id).bound == SLOTS, "the target owns every key"

    back = DeploymentsPage(v2).custom_run("reverse")
    back.set("migration_id", str(migration.id))
    back.set("who", "Ada Lovelace")
    back.set("why", "The evening is too near.")
    v2.station("reverse-form")
    reversing = back.submit()
    reversing.wait_for("Completed")
    v2.station("reversed")
    run.wait_for("Cancelled")  # the run that drove it stepped aside
    v1.station("stepped-aside")
    assert _stage(stack, migration) is Stage.REVERSED
    assert stack.owners() == initial_placement().of
    assert stack.left_over() == []


def test_an_approved_migration_is_paused_resumed_and_watched_until_it_is_done(
    v2: PrefectUI, stack: Cockpit
) -> None:
    migration = _decide(v2, stack, 0.07)
    run = RunPage.of_deployment(v2, "migrate", _run_name(migration))
    run.wait_for("Suspended", MOVED_S)
    run.resume().answer("approve", "Grace Hopper", "Before the evening.")
    run.wait_for("Running")
    until("it soaks", lambda: _stage(stack, migration) is Stage.SOAK or None, MOVED_S)
    held = DeploymentsPage(v2).custom_run("pause")
    held.set("migration_id", str(migration.id))
    held.set("who", "Ada Lovelace")
    held.submit().wait_for("Completed")
    run.open()
    run.wait_for("Suspended")
    form = run.resume("Resumed By")
    assert f"Migration {migration.id} is paused at soak" in form.headings()
    form.go_on("Grace Hopper")
    run.wait_for("Running")
    progress = run.artifact(f"migration-{migration.id}-progress")
    progress.body.get_by_text("soak").first.wait_for()
    v2.station("progress")
    run.open()
    run.wait_for("Completed", timeout_s=SOAK_S + A_STEP_S)  # the soak begins anew when it goes on
    v2.station("done")
    report = run.artifact(f"migration-{migration.id}-report")
    report.body.get_by_role("heading", name=f"Migration {migration.id}: done").first.wait_for()
    report.body.get_by_text("Grace Hopper").first.wait_for()
    v2.station("report")

    assert _stage(stack, migration) is Stage.DONE
    assert stack.owners() == {**initial_placement().of, **dict.fromkeys(migration.buckets, EMPTY)}
    assert stack.left_over() == []


def test_long_names_and_wide_tables(v1: PrefectUI, v2: PrefectUI, stack: Cockpit) -> None:
    """Nothing is asserted of how it looks: the pictures are there to be looked at."""
    in_a_table = shortened(LONG_NAME)
    sentences = stack.copy_artifacts({EMPTY: LONG_NAME}, "decision")
    tables = stack.copy_artifacts({EMPTY: in_a_table}, "forecast", "risks", "fleet")
    for ui in (v2, v1):
        for key in (*sentences, *tables):
            shown = ArtifactPage.of_key(ui, key)
            shown.body.get_by_text(LONG_NAME if key in sentences else in_a_table).first.wait_for()
            ui.station(key)


def test_no_acknowledged_write_was_lost(stack: Cockpit) -> None:
    stack.stack.require_running()
    stack.stack.workload.stop(patience_s=30)
    found = stack.history()
    assert found.passed, (found.lost, found.doubled, found.phantoms)
    assert found.acknowledged > 1_000


def test_the_uis_need_no_other_host(heard: Heard) -> None:
    assert heard.hosts["v1"] == set()
    assert heard.hosts["v2"] <= PHONES_HOME


def _decide(ui: PrefectUI, stack: Cockpit, threshold: float) -> MigrationRecord:
    """Starts `decide` with that threshold in its form, reads the plan, and returns its migration once it is there."""
    form = DeploymentsPage(ui).custom_run("decide")
    form.set(THRESHOLD, str(threshold))
    form.field(THRESHOLD).scroll_into_view_if_needed()
    ui.station("decide-form")
    run = form.submit()
    run.wait_for("Completed")
    decided = _newest_decision(stack)
    assert decided.policy["migration_threshold"] == threshold
    (plan_id,) = decided.plan_ids
    plan = PlanStore(stack.control).get(plan_id).plan
    shown = run.artifact(f"plan-{plan_id}")
    assert "with the plan done" in shown.picture()
    for reason in ("Why now:", "What if not:"):
        shown.body.get_by_text(reason).first.wait_for()
    assert (plan.source, plan.target) == (AT_RISK, EMPTY)
    ui.station("plan")
    relieved = ArtifactPage.of_key(ui, f"forecast-{AT_RISK}-queries-per-s")
    relieved.body.get_by_text(f"With plan {plan_id} done, by ").first.wait_for()
    relieved.picture()
    ui.station("forecast-relieved")
    return until("its migration", lambda: _migration_of(stack, plan_id), A_STEP_S)


def _require_evidence(stack: Cockpit, migration: MigrationRecord, headings: list[str]) -> None:
    """What is asked, the verdict of the gate that belongs to it, and the plan."""
    gate = FlipStore(stack.control).gates(migration.id)[-1]
    assert any(line.startswith(f"Cutover: {len(migration.buckets)} buckets") for line in headings)
    assert f"Go: before cutover, migration {migration.id}, flip {gate.flip_no}" in headings
    assert gate.passed
    assert f"Move {len(migration.buckets)} buckets from {AT_RISK} to {EMPTY}" in headings


def _newest_decision(stack: Cockpit) -> DecisionRecord:
    newest = PlanStore(stack.control).newest_decision()
    assert newest is not None
    return newest


def _migration_of(stack: Cockpit, plan_id: int) -> MigrationRecord | None:
    return next((one for one in MigrationStore(stack.control).all() if one.plan_id == plan_id), None)


def _run_name(migration: MigrationRecord) -> str:
    return f"migrate {migration.source} -> {migration.target}, {len(migration.buckets)} buckets"


def _stage(stack: Cockpit, migration: MigrationRecord) -> Stage:
    return MigrationStore(stack.control).get(migration.id).stage
