"""Moves the buckets of one plan, stage by stage. Re-enters a migration that is under way wherever it stands."""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from foreshard.control.engine import ControlDatabase
from foreshard.control.session import session
from foreshard.errors import ApprovalRequired, PlanClosed
from foreshard.migration.runner import Runner
from foreshard.settings import Settings
from tasks import approval, gates, plan_artifacts, reports, run_labels, stages
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
    A rejection undoes everything. A plan whose buckets are still on their way to its source waits for the migration
    that brings them.
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
        with Runner(control, settings, migration, flow_run.id, flow_run.id) as runner:
            plan_artifacts.show_migration(runner.record)
            question = _work(control, settings, runner)
        if question is not None:
            approval.wait_for_answer(question, settings.migration.approval_timeout_s)
            raise ApprovalRequired(
                f"Prefect let this run pass attempt {question.attempt} without a stored answer.",
                remedy="Start migrate again with this migration's number.",
            )
        reports.migration_report(control, migration, return_state=True)
        return stages.end_state(control, migration)


def _work(control: ControlDatabase, settings: Settings, runner: Runner) -> approval.Question | None:
    """All steps until the migration has ended, or until a person must be asked."""
    logger = get_run_logger()
    while (step := runner.next_step()) is not None:
        if step.approval:
            decided = approval.settle(runner, step)
            if decided is None:
                return approval.ask(control, settings, runner, step, gates.check(runner, step))
            logger.info("%s: %s by %s", step.name, decided.state, decided.approver)
            if decided.state == "rejected":
                stages.give_back.with_options(task_run_name="abort")(runner)
                continue
        if gates.needed(runner, step):
            gates.check(runner, step)  # again after an approval, which may have taken hours
        stages.perform.with_options(task_run_name=step.name)(runner, step)
    return None
