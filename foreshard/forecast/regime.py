"""History as if load had always lived under the present regime: without outages, at the present level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from foreshard.forecast.fold import quantile
from foreshard.forecast.level_shift import level_shifts
from foreshard.forecast.outage import NEAR_ZERO, Outage, outages
from foreshard.forecast.panel import DAY, Panel, Rows, Values
from foreshard.forecast.series import SeriesKey
from foreshard.quantities import duration

_SHIFTS = 3  # shifts that are told apart, one after the other
_HABIT = 3  # outages above which a series is one that often has no load
_LIVES = DAY  # known time with load after which what was before it is no part of the series' life
_EMPTY = timedelta(hours=12)


@dataclass(frozen=True, eq=False)
class Steadied:
    """``panel``: history to learn from; ``notes`` of the series whose history was changed, or is out of order."""

    panel: Panel
    notes: Mapping[SeriesKey, tuple[str, ...]]


def steady(panel: Panel) -> Steadied:
    """What models are to learn from: past outages and the emptiness before a series' life became gaps, and history
    before a lasting shift of level is multiplied by the shift's factor.

    An outage under way stays as it is, with a note: whether load comes back is not known. ``panel`` is clean
    (``cleaning.clean``); it is not changed.
    """
    changed = _Changed(panel)
    _leave_out_emptiness(changed)
    _leave_out_outages(changed)
    _rescale(changed)
    return changed.steadied()


class _Changed:
    """A panel under change; values are copied at the first one."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self._own = False
        self._said: dict[int, list[str]] = {}

    def values(self) -> Values:
        if not self._own:
            self.panel, self._own = self.panel.with_values(self.panel.values.copy()), True
        return self.panel.values

    def say(self, row: int, note: str) -> None:
        self._said.setdefault(row, []).append(note)

    def moment(self, step: int) -> str:
        moment = (self.panel.starts_at + step * self.panel.step).astimezone(self.panel.timezone)
        return f"{moment:%Y-%m-%d %H:%M %Z}"

    def steadied(self) -> Steadied:
        return Steadied(
            self.panel, {self.panel.keys[row]: tuple(notes) for row, notes in sorted(self._said.items())}
        )


def _leave_out_emptiness(changed: _Changed) -> None:
    """Series that began with next to nothing and then lived without a pause."""
    panel = changed.panel
    if panel.steps * panel.step < _LIVES + _EMPTY:
        return
    for row, first in _begins_to_live(panel):
        changed.values()[row, :first] = np.nan
        changed.say(row, f"its load began {changed.moment(first)}: what is before was left out")


def _begins_to_live(panel: Panel) -> list[tuple[int, int]]:
    positive = np.where(panel.values > 0, panel.values, np.float32(np.nan))
    lively = np.float32(NEAR_ZERO) * quantile(positive, 0.5, 1)
    with np.errstate(invalid="ignore"):
        alive = panel.values > lively[:, None]
    first = alive.argmax(axis=1)
    suspects: Rows = np.flatnonzero(alive.any(axis=1) & (first * panel.step >= _EMPTY))
    found = []
    for row in suspects:
        known = ~np.isnan(panel.values[row])
        before, after = int(known[: first[row]].sum()), int(known[first[row] :].sum())
        lives = alive[row, first[row] :].sum() >= 0.9 * after
        if lives and before * panel.step >= _EMPTY and after * panel.step >= _LIVES:
            found.append((int(row), int(first[row])))
    return found


def _leave_out_outages(changed: _Changed) -> None:
    step = changed.panel.step
    past: dict[int, list[Outage]] = {}
    for outage in outages(changed.panel):
        if outage.over:
            past.setdefault(outage.row, []).append(outage)
        else:
            span = duration(((outage.until - outage.first) * step).total_seconds())
            changed.say(outage.row, f"has been at {outage.share:.0%} of its usual load for {span}")
    for row, found in past.items():
        if len(found) > _HABIT:
            continue
        for outage in found:
            changed.values()[row, outage.first : outage.until] = np.nan
        last = found[-1]
        when = f"from {changed.moment(last.first)} until {changed.moment(last.until)}"
        if len(found) == 1:
            changed.say(row, f"an outage {when} was left out")
        else:
            changed.say(row, f"{len(found)} outages were left out, the last {when}")


def _rescale(changed: _Changed) -> None:
    """Each shift, the most recent first; behind a rescaled one an earlier one shows."""
    rows: Rows = np.arange(len(changed.panel.keys))
    for _ in range(_SHIFTS):
        shifts = level_shifts(changed.panel.rows(rows))
        for shift in shifts:
            row = int(rows[shift.row])
            changed.values()[row, : shift.first] *= np.float32(shift.factor)
            changed.say(
                row,
                f"at {shift.factor:.2g} times its earlier level since {changed.moment(shift.first)}:"
                " what is before was scaled to it",
            )
        rows = rows[[shift.row for shift in shifts]]
        if not len(rows):
            return
