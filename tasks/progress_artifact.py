"""How far a migration is: one artifact in the UI, and lines in the run's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from foreshard.control.migration_store import MigrationRecord
from foreshard.markdown import plain
from foreshard.migration import progress_table
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.progress import Progress
from tasks import links
from tasks.stage_path import stage_path

BETWEEN_UPDATES_S = 2.0
BAR = 20


class ProgressArtifact:
    """A `Report` that shows a step's progress; an update costs 25 ms, so there is one every two seconds.

    Use as a context manager: what was told last is shown on leaving. Every step makes a version of its own of the
    migration's one artifact, so a step's run keeps its last picture. No error of showing stops the work.
    """

    def __init__(
        self, migration: MigrationRecord, step: str, lag: Callable[[], Sequence[str]] | None = None
    ) -> None:
        """``lag``: asked at each update for lines about the streams, such as `stream_lag.lines` gives."""
        self._migration, self._step, self._lag = migration, step, lag
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
        text = f"{self._step}: {progress_table.in_words(progress.to_json())}"
        logger.info("%s", text)
        try:
            lag = [] if self._lag is None else self._lag()
            self._put(as_markdown(self._migration, self._step, progress, lag), text)
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


def links_of(migration: MigrationRecord) -> str:
    """To what comes before and after a migration; only to what there is at its stage."""
    number, at = migration.id, PATH.index(migration.stage) if migration.stage in PATH else len(PATH)
    return links.line(
        links.to_fleet(),
        links.to_artifact(f"plan-{migration.plan_id}", f"Plan {migration.plan_id}"),
        links.to_run(migration.flow_run_id, "Run") if migration.flow_run_id else "",
        links.to_artifact(f"migration-{number}-preflight", "Preflight"),
        links.to_artifact(f"migration-{number}-checks", "Checks") if at > PATH.index(Stage.PREPARE) else "",
        links.to_artifact(f"migration-{number}-verification", "Verifications")
        if at >= PATH.index(Stage.SOAK)
        else "",
    )


def as_markdown(migration: MigrationRecord, step: str, progress: Progress, lag: Sequence[str] = ()) -> str:
    """The stages with the present one marked, a bar, the step's figures, a line for every part under way, how many
    others there are, and the streams' ``lag``.
    """
    document = progress.to_json()
    full = int(BAR * progress.fraction)
    whole, *parts = progress_table.rows(document)
    counts = progress_table.counts(document)
    lines = [
        f"# Migration {migration.id}: {plain(migration.source)} to {plain(migration.target)}",
        "",
        links_of(migration),
        "",
        stage_path(migration.stage),
        "",
        f"**{step.replace('_', ' ')}**: {plain(progress.text)}",
        "",
        f"`{'█' * full}{'░' * (BAR - full)}` **{100 * progress.fraction:.0f} %**",
        "",
        f"| {' | '.join(progress_table.HEADINGS)} |",
        "|:---|---:|---:|---:|---:|---:|",
        f"| **{whole[0]}** | {' | '.join(whole[1:])} |",
        *(f"| `{name.replace('|', '/')}` | {' | '.join(figures)} |" for name, *figures in parts),
    ]
    lines += ["", f"{counts}."] if counts else []
    return "\n".join([*lines, "", *lag] if lag else lines) + "\n"
