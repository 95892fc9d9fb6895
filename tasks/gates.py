"""The gate as a task: the checks that a step needs, their verdict as artifacts of the run."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from data_checks import migration_gate
from data_checks.migration_gate import Gate, GateReport
from data_checks.scope import Checkpoint
from data_checks.suite_titles import in_words as words
from foreshard.migration.runner import Runner, Step
from foreshard.migration.stages import prepare
from tasks import gate_markdown, links
from tasks.retries import is_transient


def needed(runner: Runner, step: Step) -> bool:
    """Whether the checks of ``step`` must run now.

    Those before the copy only until it has begun: afterwards the target holds what this migration made there, and a
    run that resumes would not find it empty.
    """
    if step.checkpoint == Checkpoint.BEFORE_COPY:
        return not prepare.begun(runner.work)
    return step.checkpoint is not None


def check(runner: Runner, step: Step) -> Gate:
    """Runs the checks that ``step`` needs and stores their verdict for its flip.

    Raises GateRefused when the verdict is a no.
    """
    assert step.checkpoint is not None
    gate = _run.with_options(task_run_name=f"checks {step.checkpoint}")(
        runner, step, Checkpoint(step.checkpoint)
    )
    runner.work.flips.require_gate(runner.work.lease.migration, step.checkpoint, step.flip_no)
    return gate


def show(report: GateReport) -> None:
    """The verdict as artifacts of this run, with stable keys: in words, and a link to the Data Docs.

    The verdict itself is stored already: that it cannot be shown is logged, and stops nothing.
    """
    try:
        _put(report)
    except Exception as error:  # a picture of the work must never stop the work
        get_run_logger().warning("The verdict cannot be shown: %s", error)


def _put(report: GateReport) -> None:
    migration, checkpoint = report.scope.migration, words(report.scope.checkpoint).lower()
    said = f"{'Go' if report.verdict.passed else 'No'}: {checkpoint}, flip {report.scope.flip}"
    create_markdown_artifact(
        key=f"migration-{migration}-checks",
        markdown="\n\n".join([_links(migration), gate_markdown.as_markdown(report)]),
        description=said,
    )
    if report.address is not None:
        create_link_artifact(
            key=f"migration-{migration}-data-docs",
            link=report.address,
            link_text=f"Data Docs: {checkpoint}, flip {report.scope.flip}",
            description=said,
        )


def _links(migration: int) -> str:
    return links.line(
        links.to_fleet(),
        links.to_artifact(f"migration-{migration}-progress", f"Migration {migration}"),
        links.to_artifact(f"migration-{migration}-preflight", "Preflight"),
        links.to_run(flow_run.id, "Run") if flow_run.id else "",
    )


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2, retry_condition_fn=is_transient)
def _run(runner: Runner, step: Step, checkpoint: Checkpoint) -> Gate:
    logger = get_run_logger()
    gate = migration_gate.run(runner.work, checkpoint, step.flip_no, logger.info)
    show(gate.report)
    logger.info("%s: %s", checkpoint, gate_markdown.in_words(gate.report.verdict))
    return gate
