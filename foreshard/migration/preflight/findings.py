"""What preflight found: an object, why it matters, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from foreshard.control.migration_models import StageRun
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.hazards import Effect, Hazard

NAMED = 20
"""Buckets that share a finding and are named in it; of more, their number."""


@dataclass(frozen=True)
class Finding:
    """Something wrong or worth knowing. ``blocking``: the migration must not start."""

    subject: str
    why: str
    remedy: str
    blocking: bool = True


def journalled(runs: Iterable[StageRun]) -> list[Finding]:
    """What the newest preflight in a migration's journal found, whether it refused or not; blocking ones first."""
    newest = [run.detail for run in runs if run.stage == Stage.PREFLIGHT][-1:]
    return [Finding(**finding) for detail in newest for finding in detail.get("findings", ())]


def of_hazards(hazards: Iterable[Hazard]) -> list[Finding]:
    """Hazards as findings; what a thousand buckets have in common is said once.

    What allows no canary steps is no finding: it is a fact, which chooses one flip of everything.
    """
    alike: dict[tuple[str | None, ...], list[Hazard]] = {}
    for hazard in hazards:
        if hazard.effect is not Effect.WHOLE:
            texts = (hazard.subject, hazard.why, hazard.remedy)
            without_bucket = tuple(text.replace(hazard.bucket, "*") for text in texts)
            alike.setdefault((hazard.table, hazard.effect, *without_bucket), []).append(hazard)
    return [_said_once(same) for same in alike.values()]


def _said_once(same: Sequence[Hazard]) -> Finding:
    first = same[0]
    finding = Finding(first.subject, first.why, first.remedy, blocking=first.effect is Effect.BLOCKS)
    others = sorted({hazard.bucket for hazard in same} - {first.bucket})
    if not others:
        return finding
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return replace(finding, why=f"{finding.why} (also in {', '.join(others[:NAMED])}{more})")
