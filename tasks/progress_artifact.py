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
from foreshard.migration.progress import Part, Progress
from foreshard.quantities import UNKNOWN, amount, duration, rate

BETWEEN_UPDATES_S = 2.0
LINES = 20
"""Of parts under way; more than that nobody reads."""

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
    full = int(BAR * progress.fraction)
    under_way = [part for part in progress.parts if part.under_way]
    lines = [
        f"# Migration {migration.id}: {migration.source} to {migration.target}",
        "",
        f"**{step}**: {progress.text}",
        "",
        f"`{'█' * full}{'░' * (BAR - full)}` **{100 * progress.fraction:.0f} %**",
        "",
        "| | done | of | rows | rate | left |",
        "|:---|---:|---:|---:|---:|---:|",
        _line("**all**", progress, progress.unit),
        *(_line(f"`{part.name}`", part, progress.unit) for part in under_way[:LINES]),
    ]
    if progress.parts:
        finished = sum(part.finished for part in progress.parts)
        waiting = len(progress.parts) - finished - len(under_way)
        unseen = f" ({LINES} of them shown)" if len(under_way) > LINES else ""
        lines += [
            "",
            f"{finished} finished, {len(under_way)} under way{unseen}, {waiting} waiting.",
        ]
    return "\n".join(lines) + "\n"


def _line(name: str, one: Part | Progress, unit: str) -> str:
    rows = UNKNOWN if one.rows is None else f"{one.rows:,}"
    figures = (
        amount(one.done, unit),
        amount(one.total, unit),
        rows,
        rate(one.per_s, unit),
        duration(one.eta_s),
    )
    return f"| {name.replace('|', '/')} | {' | '.join(figures)} |"
