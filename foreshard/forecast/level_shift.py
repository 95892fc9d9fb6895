"""Level shifts: from some hour on, load is lastingly a multiple of what it was at those hours before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


from foreshard.forecast.band import Floats
from foreshard.forecast.fold import Flags, folded, quantile
from foreshard.forecast.outage import NEAR_ZERO
from foreshard.forecast.panel import DAY, HOUR, Panel, Values

SMALLEST = 1.5
"""Factor, up or down, below which models follow by themselves."""

SURE = 5.0
"""Robust standard deviations of the series' own changes from day to day that a shift must exceed."""

_UNUSUAL = 1.5  # and how many times the largest change of the weeks before
_AFTER = 12  # hours at the new level
_BEFORE = 72  # known hours at the old one
_BLOCK = 6  # hours whose median counts as one
_FLOOR = 0.02  # share of the usual load that is added before the logarithm
_WEEKEND = 72  # hours at the new level if there is no week before to compare with
_CHUNK = 500


@dataclass(frozen=True)
class LevelShift:
    """From step ``first`` on the series at ``row`` is at ``factor`` times its level before."""

    row: int
    first: int
    factor: float


def level_shifts(panel: Panel) -> list[LevelShift]:
    """The most recent shift of each series that has one, at most one each.

    A level shift in the sense of Tsay (1988, "Outliers, level shifts, and variance changes in time series", Journal of
    Forecasting 7), found robustly: logarithms, less the median of the same hour of the week (of the day, if less than
    three weeks are known), in medians of 6 hours, so that seasons and single bursts are gone. The split with the
    clearest difference is then taken at its hour and must pass each of these: at least 12 hours after it; a factor
    of 1.5; ``SURE`` times what the medians of day-long spans before it scatter, and 1.5 times the largest of them; it
    came within hours, as a trend does not; it lasts, and was not there before; the same hours a week earlier agree.
    Steps shorter than an hour are first averaged to hours. A fall to nearly nothing is no level to speak of: nothing
    is found then.
    """
    per = max(1, HOUR // panel.step)
    hours = panel.steps // per
    found = []
    for start in range(0, len(panel.keys), _CHUNK):
        values = panel.values[start : start + _CHUNK, panel.steps - hours * per :]
        detector = _Detector(_means(values, per), DAY // (panel.step * per))
        for row, first, factor in detector.found():
            found.append(LevelShift(start + row, panel.steps - (hours - first) * per, factor))
    return found


def _means(values: Values, per: int) -> Values:
    if per == 1:
        return values
    groups = values.reshape(len(values), -1, per)
    known = (~np.isnan(groups)).sum(axis=2)
    with np.errstate(invalid="ignore"):
        means: Values = np.where(known > 0, np.nansum(groups, axis=2) / np.maximum(known, 1), np.nan)
    return means.astype(np.float32)


class _Detector:
    """``values``: shape (series, hours)."""

    def __init__(self, values: Values, day: int) -> None:
        self._day = day
        positive = np.where(values > 0, values, np.float32(np.nan))
        floor = np.float32(_FLOOR) * quantile(positive, 0.5, 1, _AFTER)
        self._logs = np.log(values + floor[:, None])
        self._log_floor = np.log(floor)

    def found(self) -> list[tuple[int, int, float]]:
        """Row, first hour and factor of each shift."""
        if self._logs.shape[1] < _AFTER + _BEFORE:
            return []
        shifts = []
        for row, split in self._suspects():
            logs = self._logs[row]
            first = _at_its_hour(logs - _profile(logs, self._day), split)
            factor = self._factor(logs, float(self._log_floor[row]), first)
            if factor is not None:
                shifts.append((row, first, factor))
        return shifts

    def _suspects(self) -> list[tuple[int, int]]:
        """Rows whose medians of 6 hours differ enough on two sides of an hour, and the hour that splits them best."""
        blocks = _blocks(self._logs - _profile(self._logs, self._day))
        known = ~np.isnan(blocks)
        sums = _from_start(np.where(known, blocks, 0.0))
        counts = _from_start(known)
        number = blocks.shape[1]
        splits = np.arange(_BEFORE // _BLOCK, number - _AFTER // _BLOCK + 1)
        since = np.maximum(0, splits - 7 * self._day // _BLOCK)
        before = np.maximum(counts[:, splits] - counts[:, since], 1e-9)
        after = np.maximum(counts[:, -1:] - counts[:, splits], 1e-9)
        change = (sums[:, -1:] - sums[:, splits]) / after - (sums[:, splits] - sums[:, since]) / before
        clear = np.abs(change) * np.sqrt(after * before / (after + before))
        clear[(np.abs(change) < 0.8 * np.log(SMALLEST)) | (after < 1) | (before < 1)] = 0.0
        best = clear.argmax(axis=1)
        rows = np.flatnonzero(clear[np.arange(len(clear)), best])
        hours = self._logs.shape[1]
        return [(int(row), hours - (number - int(splits[best[row]])) * _BLOCK) for row in rows]

    def _factor(self, logs: Values, log_floor: float, first: int) -> float | None:
        """The factor of a shift at hour ``first``, or None if it is not one."""
        week = 7 * self._day
        before, after = logs[:first], logs[first:]
        if _known(after) < _AFTER or _known(before) < _BEFORE:
            return None
        seasonal = _continued(_profile_of_last(before, self._day), len(logs), first)
        residual = logs - seasonal
        old, new = residual[max(0, first - 2 * week) : first], residual[first:]
        level = float(np.nanmedian(old))
        shift = float(np.nanmedian(new)) - level
        sign, size = np.sign(shift), abs(shift)
        # Both levels must stand above the floor, or the factor is one of floors.
        at_least = log_floor + np.log(3.0)
        if size < np.log(SMALLEST) or min(np.nanmedian(before[-week:]), np.nanmedian(after)) < at_least:
            return None
        if shift < np.log(NEAR_ZERO):
            return None
        spans = residual[max(0, first - 3 * week) : first]
        scatter = np.abs(_medians_of(spans, min(len(new), self._day)) - level)
        if not len(scatter) or size < max(SURE * 1.4826 * np.median(scatter), _UNUSUAL * scatter.max()):
            return None
        if sign * (np.nanmedian(new[:_AFTER]) - np.nanmedian(old[-_AFTER:])) < 0.5 * size:
            return None
        new_side = sign * (_medians_of(new, _BLOCK) - level) > 0.5 * size
        old_side = sign * (_medians_of(old, _BLOCK) - level) > 0.5 * size
        if new_side.mean() < 0.9 or not new_side[-1] or old_side.mean() > 0.1:
            return None
        if first < week:
            return float(np.exp(shift)) if len(new) >= _WEEKEND else None
        if len(new) <= week:
            same = logs[first:] - logs[first - week : len(logs) - week]
            if _known(same) < _AFTER / 2 or sign * np.nanmedian(same) < 0.6 * size:
                return None
        return float(np.exp(shift))


def _profile(logs: Values, day: int) -> Values:
    """Median of the same hour of the week, of the day where fewer than three are known; shape of ``logs``."""
    steps = logs.shape[-1]
    by_day = _repeated(quantile(folded(logs, day), 0.5, -2), steps)
    if steps < 21 * day:
        return by_day
    by_week = _repeated(quantile(folded(logs, 7 * day), 0.5, -2, 3), steps)
    return np.where(np.isnan(by_week), by_day, by_week)


def _repeated(profile: Values, steps: int) -> Values:
    """``profile``, whose last cell is the last step, over all ``steps``."""
    period = profile.shape[-1]
    return profile[..., (np.arange(steps) - steps) % period]


def _profile_of_last(before: Values, day: int) -> Values:
    """The profile of a week whose last cell is the last of ``before``."""
    period = 7 * day
    profile = _profile(before, day)
    return profile[-period:] if len(profile) >= period else profile[-day:]


def _continued(profile: Values, steps: int, end: int) -> Values:
    """``profile``, whose last cell is step ``end - 1``, over all ``steps``."""
    return profile[(np.arange(steps) - end) % len(profile)]


def _at_its_hour(residual: Values, split: int) -> int:
    """The hour near ``split`` at which the day before and the day after differ most."""
    half = 24
    candidates = range(
        max(half // 2, split - _BLOCK - 2), min(len(residual) - _AFTER, split + _BLOCK + 2) + 1
    )

    def change(at: int) -> float:
        sides = residual[max(0, at - half) : at], residual[at : at + half]
        means = [side[~np.isnan(side)] for side in sides]
        return abs(means[1].mean() - means[0].mean()) if all(len(side) for side in means) else 0.0

    return max(candidates, key=change, default=split)


def _blocks(residuals: Values) -> Values:
    return quantile(folded(residuals, _BLOCK), 0.5, 2, 2)


def _medians_of(residual: Values, length: int) -> Values:
    """Medians of spans of ``length``, of those that are known at least by half."""
    medians = quantile(folded(residual, length), 0.5, 1, (length + 1) // 2)
    return medians[~np.isnan(medians)]


def _from_start(values: Floats | Flags) -> Floats:
    """Sums of the first 0, 1, 2 .. columns."""
    return np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1, dtype=np.float64)


def _known(values: Values) -> int:
    return int((~np.isnan(values)).sum())
