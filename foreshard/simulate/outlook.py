"""What a policy expects of a fleet at a moment: the forecasts' part of a fleet view."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from foreshard.forecast.band import QUANTILES
from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.planning.view import Floats, Indexes
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.trace import Trace


@dataclass(frozen=True, eq=False)
class Outlook:
    """H steps of length ``step`` from the trace's step ``made`` on, under the placement of then.

    ``bands`` (S, R, H, 7), ``peaks`` (S, R, 17), ``load`` (B, R, H): medians, ``queries`` (B, H),
    ``spread`` (B,): of the buckets' peaks; None where nothing is uncertain.
    """

    made: int
    step: timedelta
    placement: Indexes
    bands: Floats
    peaks: Floats
    load: Floats
    queries: Floats
    spread: Floats | None = None


def certain(
    made: int, step: timedelta, placement: Indexes, shards: Floats, load: Floats, queries: Floats
) -> Outlook:
    """An outlook without doubt: ``shards`` (S, R, H) is what they will carry, and its maximum the window's."""
    return Outlook(
        made,
        step,
        placement.copy(),
        np.repeat(shards[..., None], len(QUANTILES), axis=3),
        np.repeat(shards.max(axis=2)[..., None], len(PEAK_LEVELS), axis=2),
        load,
        queries,
    )


def held_flat(
    trace: Trace, fleet: Fleet, now: int, placement: Indexes, step: timedelta, ahead: int
) -> Outlook:
    """What one sees who does not forecast: the last step's load, for as long as one looks."""
    shards = np.repeat(fleet.load(trace, placement, now - 1, now), ahead, axis=2)
    load = np.repeat(trace.load[:, :, now - 1 : now], ahead, axis=2)
    return certain(
        now, step, placement, shards, load, np.repeat(trace.queries[:, now - 1 : now], ahead, axis=1)
    )


def truth(trace: Trace, fleet: Fleet, now: int, placement: Indexes, step: timedelta, ahead: int) -> Outlook:
    """What comes, as far as the trace goes; of each step the highest load."""
    each = step // trace.step
    until = min(now + ahead * each, trace.steps)
    return certain(
        now,
        step,
        placement,
        highest(fleet.load(trace, placement, now, until), each),
        highest(trace.load[:, :, now:until], each),
        highest(trace.queries[:, now:until], each),
    )


def yesterday(trace: Trace, now: int, step: timedelta, ahead: int) -> Floats:
    """Queries of the same times on the day before, (B, ahead): they only weigh latencies. Needs a day of history."""
    each = step // trace.step
    at = now - trace.day + np.arange(ahead * each) % trace.day
    return np.asarray(trace.queries[:, at].reshape(len(trace.names), ahead, each).mean(axis=2))


def highest(values: Floats, each: int) -> Floats:
    """The maxima of ``each`` steps together; the last may be of fewer."""
    found: Floats = np.maximum.reduceat(values, np.arange(0, values.shape[-1], each), axis=-1)
    return found
