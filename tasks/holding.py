"""A paused migration in the UI: its run is suspended, and the Resume button asks who goes on.

What holds is the pause's row in the control database. A run that gets past its wait without an answer (it crashed and
was retried, it timed out, somebody set its state) finds that row open and suspends again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import SetStateStatus
from prefect.input import RunInput, read_flow_run_input
from prefect.input.run_input import keyset_from_paused_state
from prefect.runtime import flow_run
from prefect.states import Suspended
from pydantic import Field, ValidationError

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationRecord
from foreshard.control.request_store import RequestRecord, RequestStore
from foreshard.migration.requests import Ask, Way
from foreshard.migration.runner import Runner


class ResumeForm(RunInput):
    """What a person fills in to go on."""

    resumed_by: str = Field(
        pattern=r"\S", max_length=200, description="Your name; it is kept with the migration for ever."
    )
    comment: str = Field(
        default="", max_length=2000, description="Anything that whoever reads this later should know."
    )


@dataclass(frozen=True)
class Hold:
    """A pause that is to be waited for. ``key``: Prefect's name of this one wait."""

    request: int
    key: str
    description: str

    @property
    def what(self) -> str:
        """In a few words."""
        return f"the end of pause {self.request}"


def key_prefix(request_id: int) -> str:
    """What Prefect's keys of all waits for this pause begin with."""
    return f"pause-{request_id}-"


def settle(control: ControlDatabase, asked: RequestRecord) -> bool:
    """Whether somebody resumed this run's wait for the pause; then the pause is over."""
    answer = _stored_answer(asked.id)
    if answer is None:
        return False
    RequestStore(control).ask(asked.migration, Ask.RESUME, answer.resumed_by, answer.comment, Way.UI)
    get_run_logger().info("Resumed by %s.", answer.resumed_by)
    return True


def hold(runner: Runner, asked: RequestRecord) -> Hold | None:
    """The migration stands still; the caller leaves the runner, then waits. None: the pause is over just now."""
    runner.honour(asked, lambda _: None)
    if not runner.is_held:
        return None
    record = runner.record
    get_run_logger().info("Held at %s: %s", record.stage, asked.in_words)
    # A key serves for one wait only: the lease's token is new in every run and every retry.
    return Hold(asked.id, f"{key_prefix(asked.id)}{runner.work.lease.token}", pause_markdown(record, asked))


def wait(held: Hold) -> None:
    """Suspends this flow run, for as long as it takes: the process ends here."""
    suspend_flow_run(
        wait_for_input=ResumeForm.with_initial_data(description=held.description), timeout=None, key=held.key
    )


def wake(migration: MigrationRecord, resumed_by: str) -> bool:
    """Lets the migration's suspended run go on; False if it is not suspended for a pause."""
    if migration.flow_run_id is None:
        return False
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(migration.flow_run_id))
        if run.state is None or not run.state.is_paused():
            return False
        if not str(run.state.state_details.pause_key).startswith("pause-"):
            return False
        answer = client.resume_flow_run(run.id, run_input={"resumed_by": resumed_by})
    return answer.status is SetStateStatus.ACCEPT


def pause_markdown(record: MigrationRecord, asked: RequestRecord) -> str:
    """The text above the form."""
    why = f" Why: {asked.comment}" if asked.comment else ""
    return "\n".join(
        [
            f"# Migration {record.id} is paused at {record.stage}",
            "",
            f"{record.source} to {record.target}, {len(record.buckets)} buckets. **{asked.asked_by}** paused it at "
            f"{asked.asked_at:%Y-%m-%d %H:%M:%S} UTC.{why}",
            "",
            f"{record.target} owns {record.bound} of 1024 slots and keeps them. Both streams go on; the WAL that they"
            " keep is looked at every minute.",
            "",
            f"**Resume** goes on with *{record.stage}*. To give it back instead: the flow `reverse` with number "
            f"{record.id}, or `foreshard reverse {record.id} --as NAME`.",
        ]
    )


def _stored_answer(request_id: int) -> ResumeForm | None:
    """The valid answer to any of this run's waits for this pause."""
    if not flow_run.id:
        return None
    with get_client(sync_client=True) as client:
        keys = client.read_flow_run(UUID(flow_run.id)).empirical_policy.pause_keys or set()
    for key in sorted(keys):
        if key.startswith(key_prefix(request_id)):
            stored = keyset_from_paused_state(Suspended(pause_key=key))
            content = cast(dict[str, Any] | None, read_flow_run_input(stored["response"]))
            try:
                if content is not None:
                    return ResumeForm(**content)
            except (ValidationError, TypeError):
                get_run_logger().warning("The answer to %s is not valid; the pause stands.", key)
    return None
