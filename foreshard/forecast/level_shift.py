"""Level shifts: from some hour on, load is lastingly a multiple of what it was at those hours before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
_BEFORE = 10 * 24  # hours before it: a week, and three days to compare with the same days of a week before
_BLOCK = 6  # hours whose median counts as one
_FLOOR = 0.02  # share of the usual load that is added before the logarithm
_SUSPECT = 0.7 * np.log(SMALLEST)  # change of logarithms below which nobody looks closer
_TRIED = 3  # splits of a series
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
        self._day, self._week = day, 7 * day
        positive = np.where(values > 0, values, np.float32(np.nan))
        floor = np.float32(_FLOOR) * quantile(positive, 0.5, 1, _AFTER)
        self._logs = np.log(values + floor[:, None])
        self._log_floor = np.log(floor)

    def found(self) -> list[tuple[int, int, float]]:
        """Row, first hour and factor of each shift."""
        shifts = []
        for row, splits in self._suspects():
            logs = self._logs[row]
            changes = logs[self._week :] - logs[: -self._week]
            for split in splits:
                first = self._week + _at_its_hour(changes, split - self._week)
                factor = self._factor(logs, float(self._log_floor[row]), first)
                if factor is not None:
                    shifts.append((row, first, factor))
                    break
        return shifts

    def _suspects(self) -> list[tuple[int, list[int]]]:
        """Rows whose change from a week before, in medians of 6 hours, jumps somewhere.

        With each the hours at which it jumps most, ``_TRIED`` at most, the latest first.
        """
        hours = self._logs.shape[1]
        if hours < _BEFORE + _AFTER:
            return []
        changes = self._logs[:, self._week :] - self._logs[:, : -self._week]
        blocks = quantile(folded(changes, _BLOCK), 0.5, 2, 2)
        known = ~np.isnan(blocks)
        sums, counts = _from_start(np.where(known, blocks, 0.0)), _from_start(known)
        number = blocks.shape[1]
        splits = np.arange((_BEFORE - self._week) // _BLOCK, number - _AFTER // _BLOCK + 1)
        since, until = (np.clip(splits + days * self._day // _BLOCK, 0, number) for days in (-7, 3))
        before, after = counts[:, splits] - counts[:, since], counts[:, until] - counts[:, splits]
        jump = (sums[:, until] - sums[:, splits]) / np.maximum(after, 1)
        jump = np.abs(jump - (sums[:, splits] - sums[:, since]) / np.maximum(before, 1))
        jump[(jump < _SUSPECT) | (after == 0) | (before == 0)] = 0.0
        jump *= np.sqrt(after)
        best = (jump > 0) & (jump == _largest_around(jump, self._day // _BLOCK))
        suspects = []
        for row in np.flatnonzero(best.any(axis=1)):
            at = np.flatnonzero(best[row])
            tried = sorted(at[np.argsort(jump[row, at])[-_TRIED:]], reverse=True)
            tried = [one for one in tried if _lasts(blocks[row, splits[one] :][: self._week // _BLOCK])]
            suspects.append((int(row), [hours - (number - int(splits[one])) * _BLOCK for one in tried]))
        return suspects

    def _factor(self, logs: Values, log_floor: float, first: int) -> float | None:
        """The factor of a shift at hour ``first``, or None if it is not one."""
        week = self._week
        before, after = logs[:first], logs[first:]
        if first < _BEFORE or _known(after) < _AFTER:
            return None
        same = after[:week] - logs[first - week : first][: len(after)]
        if _known(same) < _AFTER / 2:
            return None
        from_week_before = _median(same)
        if abs(from_week_before) < _SUSPECT:
            return None
        residual = self._without_season(logs, first)
        old, new = residual[max(0, first - 2 * week) : first], residual[first:]
        if _known(old) < 3 * self._day or _known(new) < _AFTER:
            return None
        level = _median(old)
        shift = _median(new) - level
        sign, size = np.sign(shift), abs(shift)
        # Both levels must stand above the floor, or the factor is one of floors.
        at_least = log_floor + np.log(3.0)
        if size < np.log(SMALLEST) or min(_median(before[-week:]), _median(after)) < at_least:
            return None
        if shift < np.log(NEAR_ZERO):
            return None
        spans = residual[max(0, first - 3 * week) : first]
        scatter = np.abs(_medians_of(spans, min(len(new), self._day)) - level)
        if not len(scatter) or size < max(SURE * 1.4826 * np.median(scatter), _UNUSUAL * scatter.max()):
            return None
        if sign * (_median(new[:_AFTER]) - _median(old[-_AFTER:])) < 0.5 * size:
            return None
        new_side = sign * (_medians_of(new, _BLOCK) - level) > 0.5 * size
        old_side = sign * (_medians_of(old, _BLOCK) - level) > 0.5 * size
        if new_side.mean() < 0.9 or not new_side[-1] or old_side.mean() > 0.1:
            return None
        if len(new) <= week and sign * from_week_before < 0.6 * size:
            return None
        return float(np.exp(shift))

    def _without_season(self, logs: Values, first: int) -> Values:
        """``logs`` less what was usual at the same hours before ``first``, in the weeks just before it."""
        week = self._week
        if first < 3 * week:
            # Too few weeks for a median of them, enough to compare each with the one before.
            last = logs[first - week + np.arange(len(logs) - first) % week]
            return np.concatenate(
                [
                    np.full(week, np.nan, logs.dtype),
                    logs[week:first] - logs[: first - week],
                    logs[first:] - last,
                ]
            )
        profile = _profile(logs[max(0, first - 4 * week) : first], self._day)[-week:]
        return logs - profile[(np.arange(len(logs)) - first) % week]


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


def _at_its_hour(changes: Values, split: int) -> int:
    """The hour near ``split`` at which the half day before and the half day after differ most."""
    known = ~np.isnan(changes)
    sums, counts = _from_start(np.where(known, changes, 0.0)[None])[0], _from_start(known[None])[0]
    at = np.arange(max(_AFTER, split - _BLOCK - 2), min(len(changes) - _AFTER, split + _BLOCK + 2) + 1)
    if not len(at):
        return split
    means = [
        (sums[until] - sums[since]) / np.maximum(counts[until] - counts[since], 1)
        for since, until in ((at - _AFTER, at), (at, at + _AFTER))
    ]
    return int(at[np.abs(means[1] - means[0]).argmax()])


def _lasts(changes: Values) -> bool:
    """Whether nearly all of them go the way of their median."""
    known = changes[~np.isnan(changes)]
    middle = _median(known)
    return bool(abs(middle) >= _SUSPECT and (known * np.sign(middle) > 0.3 * abs(middle)).mean() >= 0.8)


def _median(values: Values) -> float:
    """Of the known ones; without any, 0: no change."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else 0.0


def _largest_around(values: Floats, reach: int) -> Floats:
    """Of each cell and ``reach`` to its left and right."""
    padded = np.pad(values, ((0, 0), (reach, reach)), constant_values=-np.inf)
    largest: Floats = sliding_window_view(padded, 2 * reach + 1, axis=1).max(axis=2)
    return largest


def _medians_of(residual: Values, length: int) -> Values:
    """Medians of spans of ``length``, of those that are known at least by half."""
    medians = quantile(folded(residual, length), 0.5, 1, (length + 1) // 2)
    return medians[~np.isnan(medians)]


def _from_start(values: Floats | Flags) -> Floats:
    """Sums of the first 0, 1, 2 .. columns."""
    return np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1, dtype=np.float64)


def _known(values: Values) -> int:
    return int((~np.isnan(values)).sum())
