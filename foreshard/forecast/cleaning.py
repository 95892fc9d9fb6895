"""What cannot have been load is left out, and what a reader must know of a series' history is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from foreshard.forecast.panel import DAY, Panel, Rows, Values
from foreshard.forecast.series import SeriesKey
from foreshard.quantities import duration

ABSURD = 1e5
"""A lone value this many times above the largest of all others is no load but a broken counter.

Real bursts are 10 to 100 times as high, and an idle bucket's bulk load some thousand times.
"""

ABSURD_AT_ONCE = 3
"""Broken counters come in ones or twos (a server that restarted); more such values are a burst, and stay."""

ENOUGH_TO_JUDGE = 12
"""Known values below which nobody can tell an outlier from the series, and a note says how few there are."""

STALE_AFTER = timedelta(hours=3)

HUGE_GAP = DAY
MANY_GAPS = 0.2


@dataclass(frozen=True, eq=False)
class Cleaned:
    """``panel`` without values that cannot be; ``notes`` of the series that a reader should know something about."""

    panel: Panel
    notes: Mapping[SeriesKey, tuple[str, ...]]


def clean(panel: Panel) -> Cleaned:
    """Negative, infinite and absurd values become gaps; no value is changed or made up.

    Notes also tell of series with little, no, old, constant or much interrupted history. Cleaning what is clean
    returns the same panel.
    """
    with np.errstate(invalid="ignore"):
        negative = (panel.values < 0) & np.isfinite(panel.values)
    infinite = np.isinf(panel.values)
    values = panel.values
    if negative.any() or infinite.any():
        values = np.where(negative | infinite, np.float32(np.nan), values)
    said: dict[int, list[str]] = {}
    for mask, what in ((negative, "negative"), (infinite, "infinite")):
        for row in np.flatnonzero(mask.any(axis=1)):
            said.setdefault(int(row), []).append(_left_out(int(mask[row].sum()), f"{what} "))
    values = _without_absurd(values, said)
    _tell_of_history(panel, values, said)
    cleaned = panel if values is panel.values else panel.with_values(values)
    return Cleaned(cleaned, {panel.keys[row]: tuple(said[row]) for row in sorted(said)})


def _without_absurd(values: Values, said: dict[int, list[str]]) -> Values:
    """``values`` itself, or a copy in which absurd ones are gaps.

    Again and again until none is left: behind one outlier another may hide.
    """
    cleaned = values
    looked_at: Rows = np.arange(len(values) if values.shape[1] >= ENOUGH_TO_JUDGE else 0)
    left_out: dict[int, tuple[int, float]] = {}
    while len(looked_at):
        found = []
        for row, limit in _absurd_above(cleaned, looked_at):
            absurd = np.flatnonzero(cleaned[row] > limit)
            if cleaned is values:
                cleaned = values.copy()
            cleaned[row, absurd] = np.nan
            left_out[row] = (left_out.get(row, (0, 0.0))[0] + len(absurd), limit / ABSURD)
            found.append(row)
        looked_at = np.asarray(found, np.intp)
    for row, (count, largest) in left_out.items():
        said.setdefault(row, []).append(
            _left_out(count, why=f" far above all others (at most {largest:.4g})")
        )
    return cleaned


def _absurd_above(values: Values, rows: Rows) -> list[tuple[int, float]]:
    """Rows with absurd values, and above what they are."""
    known = np.where(np.isnan(values[rows]), np.float32(-1.0), values[rows])
    top = np.partition(known, range(-ABSURD_AT_ONCE - 1, 0), axis=1)[:, -ABSURD_AT_ONCE - 1 :].astype(float)
    enough = (known >= 0).sum(axis=1) >= ENOUGH_TO_JUDGE
    limits = np.where(top[:, :-1] > 0, ABSURD * top[:, :-1], np.inf)
    broken = enough[:, None] & (top[:, 1:] > limits)
    found = []
    for at in np.flatnonzero(broken.any(axis=1)):
        limit = float(limits[at, np.argmax(broken[at])])
        absurd = np.flatnonzero(known[at] > limit)
        if np.diff(absurd).min(initial=2) > 1:  # neighbours would be a burst
            found.append((int(rows[at]), limit))
    return found


def _tell_of_history(panel: Panel, values: Values, said: dict[int, list[str]]) -> None:
    for row, known in enumerate(~np.isnan(values)):
        notes = said.setdefault(row, [])
        at = np.flatnonzero(known)
        if not len(at):
            notes.append("no history")
            continue
        if len(at) < ENOUGH_TO_JUDGE:
            notes.append(f"only {len(at)} known {'step' if len(at) == 1 else 'steps'} of {_told(panel.step)}")
        lowest, highest = float(values[row, at].min()), float(values[row, at].max())
        if highest == 0:
            notes.append("all zero")
        elif lowest == highest and len(at) > 1:
            notes.append(f"constant: always {highest:.4g}")
        missing = 1 - len(at) / (at[-1] + 1 - at[0])
        longest = (int(np.diff(at).max(initial=1)) - 1) * panel.step
        if missing >= MANY_GAPS or longest >= HUGE_GAP:
            notes.append(f"{missing:.0%} of its time is missing, the longest gap is {_told(longest)}")
        age = (panel.steps - 1 - int(at[-1])) * panel.step
        if age > STALE_AFTER:
            notes.append(f"the last value is {_told(age)} old")
        if not notes:
            del said[row]


def _left_out(count: int, what: str = "", why: str = "") -> str:
    return f"left out {count} {what}{'value' if count == 1 else 'values'}{why}"


def _told(span: timedelta) -> str:
    return duration(span.total_seconds())
