"""The lifecycle of a migration: its stages, and the one table of transitions between them.

Pure. The control database holds the present stage; the migration store writes it and asks `check` first.
"""

from __future__ import annotations

from enum import StrEnum

from foreshard.errors import IllegalTransition


class Stage(StrEnum):
    """Where a migration is. The first eleven are worked through in order; the last three are ends."""

    PREFLIGHT = "preflight"
    PREPARE = "prepare"
    BACKFILL = "backfill"
    CATCH_UP = "catch_up"
    VERIFY = "verify"
    READ_SHADOW = "read_shadow"
    WRITE_REDIRECT = "write_redirect"
    CUTOVER = "cutover"
    SOAK = "soak"
    FINALISE = "finalise"
    ABORTING = "aborting"
    REVERSING = "reversing"
    DONE = "done"
    ABORTED = "aborted"
    REVERSED = "reversed"


PATH = (
    Stage.PREFLIGHT,
    Stage.PREPARE,
    Stage.BACKFILL,
    Stage.CATCH_UP,
    Stage.VERIFY,
    Stage.READ_SHADOW,
    Stage.WRITE_REDIRECT,
    Stage.CUTOVER,
    Stage.SOAK,
    Stage.FINALISE,
    Stage.DONE,
)
"""The way of a migration that nobody stops."""

ENDS = frozenset({Stage.DONE, Stage.ABORTED, Stage.REVERSED})

TRANSITIONS: dict[Stage, frozenset[Stage]] = {
    Stage.PREFLIGHT: frozenset({Stage.PREPARE, Stage.ABORTING}),
    Stage.PREPARE: frozenset({Stage.BACKFILL, Stage.ABORTING}),
    Stage.BACKFILL: frozenset({Stage.CATCH_UP, Stage.ABORTING}),
    Stage.CATCH_UP: frozenset({Stage.VERIFY, Stage.ABORTING}),
    Stage.VERIFY: frozenset({Stage.READ_SHADOW, Stage.ABORTING}),
    Stage.READ_SHADOW: frozenset({Stage.WRITE_REDIRECT, Stage.ABORTING}),
    Stage.WRITE_REDIRECT: frozenset({Stage.CUTOVER, Stage.ABORTING}),
    # Inside the cutover the last flip may or may not have happened: both ways back lead through the fence.
    Stage.CUTOVER: frozenset({Stage.SOAK, Stage.ABORTING, Stage.REVERSING}),
    Stage.SOAK: frozenset({Stage.FINALISE, Stage.REVERSING}),
    # Finalise drops the source's copy: there is no way back from inside it.
    Stage.FINALISE: frozenset({Stage.DONE}),
    Stage.ABORTING: frozenset({Stage.ABORTED}),
    Stage.REVERSING: frozenset({Stage.REVERSED}),
    Stage.DONE: frozenset(),
    Stage.ABORTED: frozenset(),
    Stage.REVERSED: frozenset(),
}
"""The only list of what may follow what."""

REVERSIBLE = frozenset({Stage.CUTOVER, Stage.SOAK})
ABORTABLE = frozenset(stage for stage, then in TRANSITIONS.items() if Stage.ABORTING in then)


def check(present: Stage, wanted: Stage) -> None:
    """Allow ``present -> wanted`` or raise `IllegalTransition` that says what would be allowed."""
    if wanted not in TRANSITIONS[present]:
        allowed = ", ".join(sorted(TRANSITIONS[present])) or "nothing: the migration has ended"
        raise IllegalTransition(
            f"A migration in {present} cannot go to {wanted}.",
            remedy=f"Allowed from here: {allowed}.",
            present=present.value,
            wanted=wanted.value,
        )


def following(stage: Stage) -> Stage:
    """The stage that comes next when ``stage`` is finished."""
    if stage is Stage.ABORTING:
        return Stage.ABORTED
    if stage is Stage.REVERSING:
        return Stage.REVERSED
    if stage in ENDS:
        raise IllegalTransition(f"Nothing follows {stage}: the migration has ended.", present=stage.value)
    return PATH[PATH.index(stage) + 1]
