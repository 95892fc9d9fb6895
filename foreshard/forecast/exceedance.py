"""The distribution of a window's largest load: learnt from the largest loads of past windows.

The quantiles of single steps do not hold it: how far their highest median lies below the window's maximum depends on
how many steps miss together. So the maximum is predicted by itself. Where it will be: from the highest median of the
forecast and the maxima of the same hours on the days before, weighed by least squares over all series' past windows;
and, for the other half, from the band alone. How far off each is: from how far off it was, each series' own misses
together with those of all series of its kind: how far off the maxima of single buckets were says little of a shard,
which is a sum of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES, Floats, quantile_column
from foreshard.forecast.fold import quantile
from foreshard.forecast.models.scale import from_root, to_root
from foreshard.forecast.panel import HOUR, Panel, Values
from foreshard.forecast.peak import PEAK_LEVELS, Peak

_DAYS = 14  # whose maxima at the same hours tell how much they change; the newest 7 tell how high they are
_WEEK = 7
_KNOWN = 0.9  # share of a window that must be known, or its maximum may be in the gap
_RECENT = 3  # hours, at most, that tell whether load is higher than is usual at their time of day
_HALF_LIFE = 5  # days after which a past window counts half
_OWN = 30  # past windows of its own at which a series' misses count as much as those of all
_SHAPE = 10  # windows of all series that a common shape of misses counts as; it says what few windows cannot
_PRIOR = np.array([0.4, 0.0, 0.0, 0.0])  # weights of `_Outlook.signs` before anything is learnt
_PRIOR_WINDOWS = 20  # and how many windows they are worth
_FURTHEST = 5.0  # usual changes beyond which a miss teaches no more
_STRANGE = 8.0  # robust usual changes beyond which the past says less of a forecast than its band does
_SMALLEST = 0.03  # usual change, as a share of the (root of the) usual maximum
_GRID = (np.arange(200) + 0.5) / 200


@dataclass(frozen=True, eq=False)
class PastWindows:
    """What was predicted at steps ``origins`` of the panel, and what came.

    ``predicted``: shape (origins, series, horizon, 7), ``truth``: (origins, series, horizon); NaN where unknown, the
    part of a window that is still ahead too.
    """

    origins: Sequence[int]
    predicted: Floats
    truth: Floats


def peaks(
    panel: Panel, predicted: Floats, past: PastWindows | None = None, factors: Values | None = None
) -> list[Peak]:
    """Distribution of each series' largest load over the steps of ``predicted``, shape (series, horizon, 7).

    ``panel``: the history from whose end on is predicted, as the models saw it. Of each window in ``past`` only what
    was known at its origin is compared with its truth. ``factors`` (series, horizon), of declared events, move the
    peak as they move the forecast's highest median. A series without enough history, and all without ``past``, get
    the highest of the steps' quantiles at each level, as of steps that miss all together; so does one whose forecast is
    further from what is usual than past windows were.

    Raises ``InvalidInput`` (field ``predicted``) for a quantile that is not finite.
    """
    if not np.isfinite(predicted).all():
        raise InvalidInput("predicted", "hold a value that is not finite")
    values = _of_band(predicted)
    if past is not None and len(past.origins):
        for rows in _kinds(panel):
            of_kind = PastWindows(past.origins, past.predicted[:, rows], past.truth[:, rows])
            learnt, strangeness = _learnt(panel.rows(rows), predicted[rows], of_kind)
            band = values[rows]
            values[rows] = np.where(
                np.isfinite(learnt), learnt + strangeness[:, None] * (band - learnt), band
            )
    if factors is not None:
        median = predicted[..., quantile_column(0.5)]
        ordinary, moved = median.max(axis=1), (median * factors).max(axis=1)
        values *= np.where(ordinary > 0, moved / np.maximum(ordinary, 1e-30), factors.max(axis=1))[:, None]
    return [Peak(row) for row in np.maximum.accumulate(values, axis=1)]


def _kinds(panel: Panel) -> list[npt.NDArray[np.intp]]:
    """The rows of buckets, and those of shards."""
    buckets = np.array([key.shard is None for key in panel.keys], bool)
    return [rows for of in (buckets, ~buckets) if len(rows := np.flatnonzero(of))]


def _of_band(predicted: Floats) -> Floats:
    """The highest of the steps' quantiles at each of ``PEAK_LEVELS``; (series, 17).

    Between the band's levels, and beyond the outermost, as straight lines over the normal distribution's.
    """
    known, wanted = norm.ppf(QUANTILES), norm.ppf(PEAK_LEVELS)
    highest = to_root(predicted).max(axis=1)
    right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
    return from_root(highest[:, right - 1] + share * (highest[:, right] - highest[:, right - 1]))


def _learnt(panel: Panel, predicted: Floats, past: PastWindows) -> tuple[Floats, Floats]:
    """Quantiles (series, 17), NaN for series that have no usual maximum; and each forecast's strangeness.

    Two distributions in equal parts (a linear opinion pool: Stone 1961), since they err at different times: where the
    maximum lies by its habits, in units of what it usually changes, and where it lies by the band, in units of its
    width.
    """
    came = np.stack([_maximum(to_root(truth)) for truth in past.truth])
    recency = 0.5 ** ((panel.steps - np.asarray(past.origins)) / panel.day / _HALF_LIFE)
    history = _History(panel, predicted.shape[1])
    now = history.outlook(panel.steps, predicted)
    then = [
        history.outlook(origin, quantiles)
        for origin, quantiles in zip(past.origins, past.predicted, strict=True)
    ]
    both = [_by_habit(now, then, came, recency), _by_band(predicted, past.predicted, came, recency)]
    pooled = np.quantile(np.concatenate(both, axis=1), PEAK_LEVELS, axis=1).T
    return from_root(pooled), now.strangeness


def _by_habit(now: _Outlook, then: Sequence[_Outlook], came: Floats, recency: Floats) -> Floats:
    """``_GRID``'s quantiles on the root scale, shape (series, 200)."""
    missed = np.stack([outlook.changes(maximum) for outlook, maximum in zip(then, came, strict=True)])
    signs = _near(np.stack([outlook.signs for outlook in then]))
    weights = _weights(signs, missed, recency)
    levels = (_near(now.signs) @ weights)[:, None] + _mixed((missed - signs @ weights).T, recency)
    return now.usual[:, None] + now.change[:, None] * levels


def _by_band(predicted: Floats, of_past: Floats, came: Floats, recency: Floats) -> Floats:
    """The same by how far maxima lay from the band's highest median, in units of its upper half."""
    highest, width = _upper_half(of_past)
    levels = _mixed(_near((came - highest) / width).T, recency)
    highest, width = _upper_half(predicted)
    return highest[:, None] + width[:, None] * levels


def _upper_half(predicted: Floats) -> tuple[Floats, Floats]:
    """The highest median over the steps and how far the highest quantile lies above it, on the root scale."""
    root = to_root(predicted)
    highest = root[..., quantile_column(0.5)].max(axis=-1)
    return highest, np.maximum(root[..., -1].max(axis=-1) - highest, _SMALLEST * highest + 1e-9)


@dataclass(frozen=True, eq=False)
class _Outlook:
    """What is known of a window at its origin, on the root scale; NaN without a usual maximum above zero.

    ``usual``: mean of the same hours' maxima on the days before; ``change``: how far they usually are from it; shape
    (series,). ``signs``, (series, 4): that it will be higher, in usual changes. ``strangeness``,
    0 to 1: whether both load and forecast have left what is usual so far behind that it says nothing.
    """

    usual: Floats
    change: Floats
    signs: Floats
    strangeness: Floats

    def changes(self, maximum: Floats) -> Floats:
        """How many usual changes ``maximum`` is above the usual one."""
        return (maximum - self.usual) / self.change


class _History:
    def __init__(self, panel: Panel, horizon: int) -> None:
        self._root = to_root(panel.values)
        self._horizon, self._day = horizon, panel.day
        self._recent = max(1, min(horizon, _RECENT * HOUR // panel.step))
        self._maxima: dict[int, Floats] = {}

    def outlook(self, origin: int, predicted: Floats) -> _Outlook:
        """Of the window that begins at step ``origin``, from the steps before it."""
        nearest = -(-self._horizon // self._day)
        maxima = np.stack([self._at(origin - (nearest + back) * self._day) for back in range(_DAYS)])
        usual = _mean(maxima[:_WEEK])
        change = 1.25 * _mean(np.abs(maxima - usual))
        change = np.where(usual > 0, np.maximum(change, _SMALLEST * usual), np.nan)
        highest = to_root(predicted[..., quantile_column(0.5)]).max(axis=1)
        recent = self._level(origin)
        levels = np.stack([self._level(origin - (back + 1) * self._day) for back in range(_WEEK)])
        a_week_ago = maxima[-nearest % _WEEK]
        signs = [highest - usual, maxima[0] - usual, a_week_ago - usual, recent - _mean(levels)]
        # A sign that is not known says neither higher nor lower.
        relative = np.nan_to_num(np.stack(signs, axis=-1) / change[:, None])
        strange = np.minimum(_strange(highest, maxima), _strange(recent, levels))
        return _Outlook(usual, change, relative, strange)

    def _at(self, start: int) -> Floats:
        if start not in self._maxima:
            known = self._root[:, start : start + self._horizon] if start >= 0 else self._root[:, :0]
            self._maxima[start] = _maximum(known) if known.shape[1] else np.full(len(self._root), np.nan)
        return self._maxima[start]

    def _level(self, end: int) -> Floats:
        """Mean of the last hours before ``end``."""
        return _mean(self._root[:, max(0, end - self._recent) : max(0, end)].T)


def _strange(value: Floats, usual: Floats) -> Floats:
    """0 if ``value`` (series,) is within ``_STRANGE`` robust changes of ``usual`` (days, series), 1 from twice that on.

    One strange day makes a mean strange, and the next strange day look usual; not so a median.
    """
    middle = quantile(usual, 0.5, 0)
    apart = np.maximum(1.4826 * quantile(np.abs(usual - middle), 0.5, 0), _SMALLEST * middle)
    changes = np.abs(value - middle) / np.maximum(apart, 1e-9)
    strange: Floats = np.clip(np.nan_to_num(changes / _STRANGE - 1.0), 0.0, 1.0)
    return strange


def _weights(signs: Floats, missed: Floats, recency: Floats) -> Floats:
    """Of each sign, by ridge regression towards ``_PRIOR`` (Hoerl and Kennard 1970)."""
    known = np.isfinite(missed)
    weight = np.where(known, recency[:, None], 0.0)
    left = np.where(known, _near(missed), 0.0) - signs @ _PRIOR
    square = np.einsum("os,osi,osj->ij", weight, signs, signs) + _PRIOR_WINDOWS * np.eye(len(_PRIOR))
    found: Floats = _PRIOR + np.linalg.solve(square, np.einsum("os,osi,os->i", weight, signs, left))
    return found


def _near(changes: Floats) -> Floats:
    """What is too far off to learn from is taken to be just so far off."""
    return np.clip(changes, -_FURTHEST, _FURTHEST)


def _mixed(misses: Floats, recency: Floats) -> Floats:
    """``_GRID``'s quantiles of each series' misses (series, origins) mixed with those of all; (series, 17)."""
    weight = np.where(np.isfinite(misses), recency, 0.0)
    misses = np.where(weight > 0, misses, 0.0)
    all_weights = weight.sum()
    if all_weights == 0:
        return np.full((len(misses), len(_GRID)), np.nan)
    middle, spread = _quantiles(misses.reshape(1, -1), weight.reshape(1, -1), np.array([0.5, 0.75]))[0]
    shape = middle + max(spread - middle, 0.1) / t.ppf(0.75, 5) * t.ppf(_GRID, 5)
    common = _quantiles(
        np.concatenate([misses.ravel(), shape])[None],
        np.concatenate([weight.ravel(), np.full(len(shape), _SHAPE / len(shape))])[None],
        _GRID,
    )
    together = np.concatenate([misses, np.broadcast_to(common, (len(misses), len(_GRID)))], axis=1)
    weights = np.concatenate([weight, np.full((len(misses), len(_GRID)), _OWN / len(_GRID))], axis=1)
    return _quantiles(together, weights, _GRID)


def _quantiles(values: Floats, weights: Floats, levels: Floats) -> Floats:
    """Of each row, weighted; (rows, levels)."""
    order = np.argsort(values, axis=1)
    values, weights = np.take_along_axis(values, order, axis=1), np.take_along_axis(weights, order, axis=1)
    until = np.cumsum(weights, axis=1)
    at = (until - weights / 2) / until[:, -1:]
    return np.stack([np.interp(levels, *row) for row in zip(at, values, strict=True)])


def _maximum(values: Floats) -> Floats:
    """Of each row, NaN where too little of it is known."""
    known = np.isfinite(values)
    largest = np.where(known, values, -np.inf).max(axis=1)
    return np.where(known.mean(axis=1) >= _KNOWN, largest, np.nan)


def _mean(values: Floats) -> Floats:
    """Of the known ones along the first axis."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    mean: Floats = np.where(
        count > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan
    )
    return mean
