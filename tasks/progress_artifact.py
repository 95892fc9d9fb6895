"""How far a migration is: one artifact in the UI, and lines in the run's log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from foreshard.control.migration_store import MigrationRecord
from foreshard.migration import progress_table
from foreshard.migration.progress import Progress
from foreshard.quantities import amount, duration, rate

BETWEEN_UPDATES_S = 2.0
BAR = 20


class ProgressArtifact:
    """A `Report` that shows a step's progress; an update costs 25 ms, so there is one every two seconds.

    Use as a context manager: what was told last is shown on leaving. Every step makes a version of its own of the
    migration's one artifact, so a step's run keeps its last picture. No error of showing stops the work.
    """

    def __init__(self, migration: MigrationRecord, step: str) -> None:
        self._migration, self._step = migration, step
        self._artifact: UUID | None = None
        self._next = 0.0
        self._newest: Progress | None = None
        self._shown: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._newest is not None and self._newest is not self._shown:
            self._show(self._newest)

    def __call__(self, progress: Progress) -> None:
        """Takes the newest progress."""
        self._newest = progress
        now = time.monotonic()
        if now >= self._next:
            self._next = now + BETWEEN_UPDATES_S
            self._show(progress)

    def _show(self, progress: Progress) -> None:
        self._shown = progress
        logger = get_run_logger()
        text = f"{self._step}: {in_words(progress)}"
        logger.info("%s", text)
        try:
            self._put(as_markdown(self._migration, self._step, progress), text)
        except Exception as error:  # a picture of the work must never stop the work
            logger.warning("The progress cannot be shown: %s", error)

    def _put(self, markdown: str, text: str) -> None:
        if self._artifact is None:
            key = f"migration-{self._migration.id}-progress"
            self._artifact = cast(
                UUID, create_markdown_artifact(key=key, markdown=markdown, description=text)
            )
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._artifact, ArtifactUpdate(data=markdown, description=text))


def in_words(progress: Progress) -> str:
    """One line."""
    text = (
        f"{progress.text}, {amount(progress.done, progress.unit)} of {amount(progress.total, progress.unit)}"
    )
    if progress.per_s is not None:
        text += f", {rate(progress.per_s, progress.unit)}"
    return text if progress.eta_s is None else f"{text}, {duration(progress.eta_s)} left"


def as_markdown(migration: MigrationRecord, step: str, progress: Progress) -> str:
    """A bar, the step's figures, a line for every part under way, and how many others there are."""
    document = progress.to_json()
    full = int(BAR * progress.fraction)
    whole, *parts = progress_table.rows(document)
    counts = progress_table.counts(document)
    lines = [
        f"# Migration {migration.id}: {migration.source} to {migration.target}",
        "",
        f"**{step}**: {progress.text}",
        "",
        f"`{'█' * full}{'░' * (BAR - full)}` **{100 * progress.fraction:.0f} %**",
        "",
        f"| {' | '.join(progress_table.HEADINGS)} |",
        "|:---|---:|---:|---:|---:|---:|",
        f"| **{whole[0]}** | {' | '.join(whole[1:])} |",
        *(f"| `{name.replace('|', '/')}` | {' | '.join(figures)} |" for name, *figures in parts),
    ]
    return "\n".join([*lines, "", f"{counts}."] if counts else lines) + "\n"
