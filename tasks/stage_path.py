"""The way of a migration in one line, with the present stage marked."""

from __future__ import annotations

from foreshard.migration.lifecycle import ENDS, PATH, Stage

_BACK = {
    Stage.ABORTING: (Stage.ABORTING, Stage.ABORTED),
    Stage.ABORTED: (Stage.ABORTING, Stage.ABORTED),
    Stage.REVERSING: (Stage.REVERSING, Stage.REVERSED),
    Stage.REVERSED: (Stage.REVERSING, Stage.REVERSED),
}
"""The way back; how far the migration had come before is in its report."""


def stage_path(stage: Stage) -> str:
    """``✓ preflight → ✓ prepare → **▶ backfill** → catch up → ...``; of a way back only its two stages."""
    path = _BACK.get(stage, PATH)
    at = path.index(stage)
    return " → ".join(
        f"**▶ {words(one)}**"
        if number == at and stage not in ENDS
        else f"✓ {words(one)}"
        if number <= at
        else words(one)
        for number, one in enumerate(path)
    )


def words(stage: Stage) -> str:
    """``catch up``."""
    return stage.value.replace("_", " ")
