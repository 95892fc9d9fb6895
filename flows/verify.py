"""Looks whether the copies of migrations that are cut over are equal, or any bucket in order. Every 15 minutes."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from foreshard.control.session import session
from tasks import run_labels, verifying
from tasks.form_fields import Choice, Help


@flow(name="verify", persist_result=False)
def verify(
    migration_id: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Choice("number", "every one"),
        Help("Only this migration, from its stage verify on. Give this or a bucket, not both."),
    ] = None,
    bucket: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Choice("name", "none"),
        Help("Only this bucket, e.g. b0007, whether it moves or not."),
    ] = None,
) -> list[int]:
    """Compares both copies of every migration between its cutover and finalise, or looks at one bucket.

    Runs by itself every 15 minutes with both fields empty; with nothing to look at the run ends at once. Returns the
    verifications' numbers; each has an artifact. A migration whose newest
    verification failed is not finalised until one passes. Of a bucket that does not move: that it stands where the
    routing map says and nowhere else, and nothing of it is invalid or left over. No shard is changed.

    The run fails, and the event `foreshard.verification.failed` is emitted, where something was found; it fails, too,
    where a verification could not be made, which is no verdict.
    """
    with session() as (settings, control):
        run_labels.of_verification(migration_id, bucket)
        wanted = verifying.wanted(control, migration_id, bucket)
        made = [
            verifying.verify_one.with_options(task_run_name=one.name)(control, settings, one)
            for one in wanted
        ]
        records = [record for record in made if record is not None]
        verifying.raise_unless_passed(records)
        return [record.id for record in records]
