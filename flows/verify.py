"""Looks whether the copies of migrations that are cut over are equal, or any bucket in order. Every 15 minutes."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from foreshard.control.session import session
from tasks import verifying


@flow(name="verify", persist_result=False)
def verify(
    migration_id: Annotated[int, Field(ge=1)] | None = None,
    bucket: Annotated[str, Field(min_length=1)] | None = None,
) -> list[int]:
    """Compares both copies of every migration between its cutover and finalise; returns the verifications' numbers.

    Leave both fields empty for that; with nothing to look at the run ends at once. A migration whose newest
    verification failed is not finalised until one passes. Of a bucket that does not move: that it stands where the
    routing map says and nowhere else, and nothing of it is invalid or left over. No shard is changed.

    The run fails, and the event `foreshard.verification.failed` is emitted, where something was found; it fails, too,
    where a verification could not be made, which is no verdict.

    Args:
        migration_id: Only this migration, from its stage verify on.
        bucket: Only this bucket, whether it moves or not.
    """
    with session() as (settings, control):
        wanted = verifying.wanted(control, migration_id, bucket)
        made = [
            verifying.verify_one.with_options(task_run_name=one.name)(control, settings, one)
            for one in wanted
        ]
        records = [record for record in made if record is not None]
        verifying.raise_unless_passed(records)
        return [record.id for record in records]
