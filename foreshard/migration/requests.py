"""What people may ask of a migration, and which of two wishes counts. Pure.

At most one request of a migration is open. A later one takes the place of an earlier one by `rule`: giving back
(abort, reverse) beats a pause, nothing beats giving back. A pause stays open until somebody resumes: as long as it is,
nobody goes on with the migration.
"""

from __future__ import annotations

from enum import StrEnum

from foreshard.errors import IllegalTransition
from foreshard.migration.lifecycle import ENDS, Stage


class Ask(StrEnum):
    """What is asked of a migration. ``reverse`` gives back whenever that is possible, ``abort`` before the cutover."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    REVERSE = "reverse"

    @property
    def gives_back(self) -> bool:
        """Whether the source is to own every key again."""
        return self in (Ask.ABORT, Ask.REVERSE)


class Way(StrEnum):
    """By which way it was asked."""

    UI = "ui"
    SHELL = "shell"
    JANITOR = "janitor"


class Ruling(StrEnum):
    """What becomes of a request that is allowed."""

    NEW = "new"
    SAME = "same"
    """As good as asked already: the open one stands."""
    REPLACES = "replaces"
    """The open pause is over; this one stands."""
    RESUMES = "resumes"
    """The open pause is over; nothing stands."""


class Outcome(StrEnum):
    """How a request was settled."""

    DONE = "done"
    RESUMED = "resumed"
    REPLACED = "replaced"
    OVERTAKEN = "overtaken"
    """The migration ended without it."""
    REFUSED = "refused"
    """What it asks for turned out to be impossible."""


OUTCOMES: dict[Ask, frozenset[Outcome]] = {
    Ask.PAUSE: frozenset({Outcome.RESUMED, Outcome.REPLACED, Outcome.OVERTAKEN}),
    Ask.RESUME: frozenset({Outcome.DONE}),
    Ask.ABORT: frozenset({Outcome.DONE, Outcome.REFUSED, Outcome.OVERTAKEN}),
    Ask.REVERSE: frozenset({Outcome.DONE, Outcome.REFUSED, Outcome.OVERTAKEN}),
}

GOING_BACK = frozenset({Stage.ABORTING, Stage.REVERSING})

INTERRUPTIBLE = frozenset(Stage) - ENDS - GOING_BACK - {Stage.CUTOVER, Stage.FINALISE}
"""Stages that stop in their middle. A cutover is a flip, and half a way back, or half a clean-up, is of no use."""


def rule(migration: int, stage: Stage, open_: Ask | None, wanted: Ask) -> Ruling:
    """What becomes of ``wanted`` in ``stage`` while ``open_`` is open.

    Raises:
        IllegalTransition: it is impossible; says why, and what is possible.
    """

    def refused(why: str, remedy: str) -> IllegalTransition:
        return IllegalTransition(
            f"Migration {migration} {why}.", remedy=remedy, migration=migration, stage=stage.value
        )

    if stage in ENDS:
        raise refused(f"has ended ({stage})", "Nothing of it can be stopped or taken back any more.")
    if wanted is Ask.RESUME:
        if open_ is not Ask.PAUSE:
            state = "is not paused" if open_ is None else f"is not paused: somebody asked to {open_} it"
            raise refused(state, f"`foreshard watch {migration}` shows what it waits for.")
        return Ruling.RESUMES
    if stage is Stage.FINALISE:
        raise refused(
            "is in finalise: the source's copy is being dropped, there is no way back and nothing to hold",
            "Let it end. A new plan brings the buckets back.",
        )
    if wanted is Ask.PAUSE:
        if stage in GOING_BACK or (open_ is not None and open_.gives_back):
            raise refused("is being given back to its source", "Let it end: it takes seconds.")
        return Ruling.SAME if open_ is Ask.PAUSE else Ruling.NEW
    if wanted is Ask.ABORT and stage in (Stage.SOAK, Stage.REVERSING):
        raise refused(
            f"is in {stage}: it is cut over already, too late to abort",
            f"Reverse it: `foreshard reverse {migration} --as NAME`.",
        )
    if open_ is None:
        return Ruling.NEW
    return Ruling.SAME if open_.gives_back else Ruling.REPLACES
