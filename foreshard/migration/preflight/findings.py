"""What preflight found: an object, why it matters, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from foreshard.postgres.hazards import Effect, Hazard


@dataclass(frozen=True)
class Finding:
    """Something wrong or worth knowing. ``blocking``: the migration must not start."""

    subject: str
    why: str
    remedy: str
    blocking: bool = True


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
    others = len({hazard.bucket for hazard in same}) - 1
    if others < 1:
        return finding
    return replace(finding, why=f"{finding.why} (so in {others} more of the buckets)")
