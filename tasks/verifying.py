"""What the flow `verify` does for one migration or bucket: look, show, tell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from foreshard.control.engine import ControlDatabase
from foreshard.control.verification_store import VerificationRecord
from foreshard.errors import ForeshardError, IllegalTransition, InvalidInput, VerificationFailed
from foreshard.markdown import plain
from foreshard.migration import verification
from foreshard.postgres.digests import TableProgress
from foreshard.settings import Settings
from tasks import events, links
from tasks.artifact_keys import artifact_key

BETWEEN_UPDATES_S = 2.0
SHOWN = 200


@dataclass(frozen=True)
class Wanted:
    """What to verify. ``asked_for`` by somebody: then a migration that cannot be verified is an error."""

    migration: int | None = None
    bucket: str | None = None
    asked_for: bool = True

    @property
    def name(self) -> str:
        """For people."""
        return f"verify bucket {self.bucket}" if self.bucket else f"verify migration {self.migration}"

    @property
    def key(self) -> str:
        """Of its artifact."""
        if self.bucket:
            return artifact_key("bucket", self.bucket, "verification")
        return f"migration-{self.migration}-verification"


def wanted(control: ControlDatabase, migration_id: int | None, bucket: str | None) -> list[Wanted]:
    """What the run's parameters ask for. Raises `InvalidInput` if both are given."""
    if migration_id is not None and bucket is not None:
        raise InvalidInput("migration_id, bucket", "give one of the two, or none.")
    if bucket is not None:
        return [Wanted(bucket=bucket)]
    if migration_id is not None:
        return [Wanted(migration=migration_id)]
    return [Wanted(migration=one.id, asked_for=False) for one in verification.standing(control)]


@task(name="verify", cache_policy=NO_CACHE)
def verify_one(control: ControlDatabase, settings: Settings, one: Wanted) -> VerificationRecord | None:
    """The verdict, stored and shown; None where it was finalised just before, or is being verified."""
    if one.asked_for:
        return _verify(control, settings, one)
    assert one.migration is not None
    with verification.alone(control, one.migration) as free:
        if free:
            return _verify(control, settings, one)
    get_run_logger().warning("%s: the run before still compares; this one does not begin another.", one.name)
    return None


def _verify(control: ControlDatabase, settings: Settings, one: Wanted) -> VerificationRecord | None:
    logger = get_run_logger()
    made_by = f"flow run {flow_run.name or flow_run.id}"
    try:
        with _Progress(one) as progress:
            if one.bucket is not None:
                record = verification.verify_bucket(control, settings, one.bucket, made_by, progress=progress)
            else:
                assert one.migration is not None
                record = verification.verify_migration(
                    control, settings, one.migration, made_by, progress=progress
                )
    except IllegalTransition as over:
        if one.asked_for:
            raise
        logger.info("%s: %s", one.name, over.message)
        return None
    say = logger.info if record.passed else logger.error
    say("%s: %s", one.name, record.in_words)
    for finding in record.findings:
        logger.error("%s: %s", one.name, finding["what"])
    if record.passed is False:
        events.verification_failed(record.id, verification.summary(record))
    create_markdown_artifact(
        key=one.key,
        markdown=as_markdown(record),
        description=f"{one.name.capitalize()}: {record.in_words}",
    )
    return record


def raise_unless_passed(records: Sequence[VerificationRecord]) -> None:
    """A run that found something is a failed run.

    Raises:
        VerificationFailed: what failed.
        ForeshardError: what could not be made.
    """
    failed = [one for one in records if one.passed is False]
    if failed:
        raise VerificationFailed(
            f"{len(failed)} of {len(records)} verification(s) failed, first {failed[0].id}: "
            f"{failed[0].findings[0]['what']}",
            remedy="See its artifact; `foreshard check diff` and `foreshard check repair` are for migrations.",
        )
    not_made = [one for one in records if one.passed is None]
    if not_made:
        raise ForeshardError(
            f"{len(not_made)} of {len(records)} verification(s) could not be made, first {not_made[0].id}: "
            f"{not_made[0].problem}",
            remedy="That is no verdict: nothing passed and nothing is held back by it. The next run looks again.",
        )


def as_markdown(record: VerificationRecord) -> str:
    """A verdict for people."""
    what = (
        f"Migration {record.migration}"
        if record.migration is not None
        else f"Bucket {plain(str(record.bucket))}"
    )
    part = f", bucket {plain(record.bucket)}" if record.migration is not None and record.bucket else ""
    seen = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in record.seen.items())
    lines = [
        f"# {what}{part}: {plain(record.in_words)}",
        "",
        links.line(
            links.to_fleet(),
            *(
                []
                if record.migration is None
                else [
                    links.to_artifact(
                        f"migration-{record.migration}-progress", f"Migration {record.migration}"
                    )
                ]
            ),
        ),
        "",
        f"Verification {record.id} by {record.made_by}, begun {record.begun_at:%Y-%m-%d %H:%M:%S} UTC. {seen}",
    ]
    if record.passed is None:
        lines += ["", "**No verdict**: it passes nothing, and it holds nothing back."]
    if record.findings:
        lines += ["", "## Found", "", *(f"- {plain(one['what'])}" for one in record.findings[:SHOWN])]
        left = len(record.findings) - SHOWN
        lines += [f"- ... and {left:,} more"] if left > 0 else []
    if record.passed is False and record.migration is not None:
        number = record.migration
        lines += [
            "",
            f"Migration {number} is not finalised until a verification passes. `foreshard check diff {number}` shows "
            f"the rows, `foreshard check repair {number} --as NAME` copies them from their owner, "
            f"`foreshard verify {number}` looks again; the flow `reverse` gives the migration up.",
        ]
    return "\n".join(lines)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


class _Progress:
    """How far the comparison is, in the UI; nothing that a short one would have. No error of showing stops the work."""

    def __init__(self, one: Wanted) -> None:
        self._key = f"{one.key}-progress"
        self._tables: dict[str, tuple[float, int]] = {}
        self._artifact: UUID | None = None
        self._next = time.monotonic() + BETWEEN_UPDATES_S

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._artifact is not None:
            self._show(100.0)

    def __call__(self, table: TableProgress) -> None:
        self._tables[f"{table.bucket}.{table.table}"] = (table.done, table.total)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + BETWEEN_UPDATES_S
        done, total = (sum(column) for column in zip(*self._tables.values(), strict=True))
        self._show(100 * done / total if total else 0.0)

    def _show(self, percent: float) -> None:
        try:
            if self._artifact is None:
                self._artifact = cast(UUID, create_progress_artifact(progress=percent, key=self._key))
            else:
                update_progress_artifact(self._artifact, progress=percent)
        except Exception as error:
            get_run_logger().warning("The progress cannot be shown: %s", error)
