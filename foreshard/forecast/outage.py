"""Outages: hours without load in a series that has load at those hours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast.fold import Flags, folded, quantile
from foreshard.forecast.panel import HOUR, Panel, Values

NEAR_ZERO = 0.05
"""Share of the usual load below which a service is down, not quiet."""

_ALIVE = (
    0.25  # share of a quiet day's load above which a week ago, or a week later, there was load at that hour
)
_QUIET_DAY = 0.2  # level of a quiet day among all: below it there may be outages, above it no weekends
_DAYS = 4  # known days at an hour below which nobody knows what is usual
_AT_LEAST = HOUR
_CHUNK = 500


@dataclass(frozen=True)
class Outage:
    """Steps ``first`` .. ``until - 1`` of the series at ``row``, at ``share`` of its usual load.

    ``over``: load came back.
    """

    row: int
    first: int
    until: int
    share: float
    over: bool


def outages(panel: Panel) -> list[Outage]:
    """Runs of at least an hour, and of two steps, below ``NEAR_ZERO`` of a quiet day's load at the same hour.

    A week before or after there must have been load: what is quiet each Sunday is a habit. What an event of the
    panel covers is the event's doing, and no outage. By series, and of a series by time.
    """
    found: list[Outage] = []
    for start in range(0, len(panel.keys), _CHUNK):
        near, usual = _near_zero(panel.values[start : start + _CHUNK], panel.day)
        for row in np.flatnonzero(near.any(axis=1)):
            found += _runs(panel, start + int(row), near[row], usual[row])
    return found


def _near_zero(values: Values, day: int) -> tuple[Flags, Values]:
    """Whether each step is near zero, (rows, steps), and the usual load at each step of a day, (rows, day)."""
    days = folded(values, day)
    low = quantile(days, _QUIET_DAY, 1, _DAYS)[:, None]
    near = days < NEAR_ZERO * low
    if near.any():
        load = days > _ALIVE * low
        other_week = np.zeros_like(near)
        other_week[:, 7:] |= load[:, :-7]
        other_week[:, :-7] |= load[:, 7:]
        near &= other_week
    flat = near.reshape(len(values), days.shape[1] * day)
    return flat[:, flat.shape[1] - values.shape[1] :], quantile(days, 0.5, 1)


def _runs(panel: Panel, row: int, near: Flags, usual: Values) -> list[Outage]:
    edges = np.flatnonzero(np.diff(np.r_[False, near, False]))
    known = np.flatnonzero(~np.isnan(panel.values[row]))
    found = []
    for first, until in edges.reshape(-1, 2).tolist():
        if until - first < max(2, _AT_LEAST // panel.step) or _explained(panel, row, first, until):
            continue
        at = (np.arange(first, until) - panel.steps) % panel.day
        share = float(panel.values[row, first:until].sum() / max(usual[at].sum(), 1e-30))
        found.append(Outage(row, first, until, share, over=until <= known[-1]))
    return found


def _explained(panel: Panel, row: int, first: int, until: int) -> bool:
    begin, end = panel.starts_at + first * panel.step, panel.starts_at + until * panel.step
    return any(
        event.starts_at < end and event.ends_at > begin and event.concerns(panel.keys[row])
        for event in panel.events
    )
