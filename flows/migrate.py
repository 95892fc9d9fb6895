"""Moves the buckets of one plan, stage by stage. Re-enters a migration that is under way wherever it stands."""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.session import session
from foreshard.errors import ApprovalRequired, LeaseLost, PlanClosed
from foreshard.migration.requests import GOING_BACK, Ask
from foreshard.migration.runner import Runner
from foreshard.settings import Settings
from tasks import approval, away, gates, holding, plan_links, reports, run_labels, stages, steering
from tasks.form_fields import Choice, Help


@flow(name="migrate", persist_result=False)
def migrate(
    plan_id: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Choice("number", "none"),
        Help("The plan to carry out; starts its migration."),
    ] = None,
    migration_id: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Choice("number", "none"),
        Help("A migration that has begun, to go on with."),
    ] = None,
) -> State[None] | None:
    """Moves the buckets of a plan from their shard to another one, online, or goes on with a migration.

    Give one of the two numbers; the artifact `fleet` has both. Before a flip that a person must approve the run
    suspends: **Resume** on its page opens the form. Its process ends meanwhile, and the run starts from its top when
    the form has been sent; the control database knows how far the migration is, and every stage may be entered again.
    A rejection undoes everything; so does, if the settings say so, a question that nobody answers in time. A run that
    is paused (the flow `pause`, `foreshard pause`) suspends likewise, until it is resumed. A plan whose buckets are
    still on their way to its source waits for the migration that brings them.
    """
    with session() as (settings, control):
        run_labels.of_migration(control, "migrate", plan_id=plan_id, migration_id=migration_id)
        try:
            migration = stages.open_migration(control, settings, plan_id, migration_id)
        except PlanClosed as closed:
            return Cancelled(message=closed.message)
        run_labels.of_migration(control, "migrate", migration_id=migration)
        elsewhere = stages.waits_elsewhere(control, migration)
        if elsewhere is not None:
            return Cancelled(message=elsewhere)
        previous = MigrationStore(control).get(migration).flow_run_id
        try:
            with (
                Runner(control, settings, migration, flow_run.id, flow_run.id) as runner,
                away.as_interruption(),
            ):
                plan_links.show_migration(runner.record)
                waiting = _work(control, settings, runner, previous)
        except LeaseLost:
            driven = stages.driven_elsewhere(control, migration)
            if driven is None:
                raise
            return driven
        if isinstance(waiting, str):
            return Cancelled(message=waiting)
        if waiting is not None:
            if isinstance(waiting, holding.Hold):
                holding.wait(waiting)
            else:
                approval.wait_for_answer(waiting)
            raise ApprovalRequired(
                f"Prefect let this run pass its wait for {waiting.what} without a stored answer.",
                remedy="Start migrate again with this migration's number.",
            )
        reports.migration_report(control, migration, return_state=True)
        return stages.end_state(control, migration)


def _work(
    control: ControlDatabase, settings: Settings, runner: Runner, previous: str | None
) -> approval.Question | holding.Hold | str | None:
    """All steps until the migration has ended (None), a person is waited for, or another run takes it over (why).

    What somebody asked of the migration comes before every step. ``previous``: the run that drove it before.
    """
    logger = get_run_logger()
    while (step := runner.next_step()) is not None:
        if (asked := runner.asked()) is not None and step.stage not in GOING_BACK:
            if asked.kind is Ask.PAUSE:
                if not holding.settle(control, asked) and (held := holding.hold(runner, asked)) is not None:
                    return held
            elif steering.carried_elsewhere(asked):
                return steering.stepped_aside(asked)
            else:
                stages.give_back(runner, asked)
                steering.end_other_run(previous, asked)
            continue
        if step.approval:
            word = approval.settle(settings, runner, step)
            if isinstance(word, approval.Question):
                return word  # the answer does not count: the same question again
            if word is None:
                gate = gates.check(runner, step)
                if runner.asked() is not None:  # the checks may have taken minutes
                    continue
                return approval.ask(control, settings, runner, step, gate)
            logger.info("%s: %s %s", step.name, word.state, f"by {word.approver}" if word.approver else "")
            if word.state != "approved":
                stages.give_back.with_options(task_run_name="abort")(runner)
                continue
            gate = gates.check(runner, step)  # again: the answer may have taken hours
            if not approval.still_covers(runner, word, gate):
                return approval.ask(control, settings, runner, step, gate)
        elif gates.needed(runner, step):
            gates.check(runner, step)
        stages.perform.with_options(task_run_name=step.name)(runner, step)
    return None
