"""Contenders held against each other: what a report says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from foreshard.simulate.contender import Way
from foreshard.simulate.outcome import Outcome


def best_reactive(outcomes: Sequence[Outcome]) -> float | None:
    """The threshold with which `reactive` left the fewest saturated minutes, of equals the one that moved least."""
    tried = {one.threshold for one in outcomes if one.threshold is not None}
    return min(tried, key=lambda threshold: _worth(outcomes, threshold), default=None)


def compared(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One of each way: of `reactive` that with the best threshold over all that are given."""
    best = best_reactive(outcomes)
    return [one for one in outcomes if one.threshold in (None, best)]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Figures of each way, summed over fleets, and how far each closes the gap between `reactive` and `oracle`.

    A gap is None where there is none to close; ``bytes_over_reactive`` where `reactive` moved nothing.
    """
    best = best_reactive(outcomes)
    by_way = {way: [one for one in compared(outcomes) if one.contender.split()[0] == way] for way in Way}
    totals = {way.value: _total(found) for way, found in by_way.items() if found}
    for one in totals.values():
        one |= _against(one, totals.get(Way.REACTIVE.value), totals.get(Way.ORACLE.value))
    return {
        "reactive_threshold": best,
        "ways": totals,
        "reactive_by_threshold": {
            f"{one:g}": _total(of for of in outcomes if of.threshold == one)
            for one in sorted({of.threshold for of in outcomes if of.threshold is not None})
        },
    }


def _worth(outcomes: Sequence[Outcome], threshold: float) -> tuple[float, int, float]:
    of = [one for one in outcomes if one.threshold == threshold]
    return sum(one.saturated_minutes for one in of), sum(one.bytes for one in of), -threshold


def _total(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    found = [one.figures() for one in outcomes]
    added = (
        "saturated_shard_minutes",
        "bytes",
        "migrations",
        "moves",
        "moves_undone",
        "pause_s",
        "plans_expired",
    )
    total: dict[str, Any] = {key: sum(one[key] for one in found) for key in added}
    for key in ("saturated_share", "latency_stretch_mean"):
        total[key] = sum(one[key] for one in found) / len(found)
    for key in ("worst_utilisation", "latency_stretch_p99"):
        total[key] = max(one[key] for one in found)
    return total


def _against(
    one: dict[str, Any], reactive: dict[str, Any] | None, oracle: dict[str, Any] | None
) -> dict[str, float | None]:
    found: dict[str, float | None] = {"gap_closed": None, "bytes_over_reactive": None}
    if reactive is None:
        return found
    if reactive["bytes"]:
        found["bytes_over_reactive"] = one["bytes"] / reactive["bytes"]
    if oracle is not None:
        gap = reactive["saturated_shard_minutes"] - oracle["saturated_shard_minutes"]
        if gap > 0:
            found["gap_closed"] = (reactive["saturated_shard_minutes"] - one["saturated_shard_minutes"]) / gap
    return found
