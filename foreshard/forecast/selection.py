"""Which model forecasts a series: the one, or the combination, that lost least at past origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.forecast.band import Floats
from foreshard.forecast.scores import Bools, pinball

COMBINATION = "combination"

HALF_LIFE = 7.0
"""Days after which an origin's losses count half."""
BELIEF = 3.0
"""Days of a series' own losses that count as much as those of all series together."""
SHARPNESS = 20.0
"""A model's weight goes with this power of 1 / its score."""
TOLERANCE = 1.3
"""A model that lost more than this times what the best one lost has no part in the combination."""
STAYS = 0.97
"""A new champion must have lost less than this times what the present one lost."""


@dataclass(frozen=True, eq=False)
class Losses:
    """Of each model at past origins, shape (models, series): weighted pinball loss, and the days it is known of."""

    names: tuple[str, ...]
    total: Floats
    days: Floats


@dataclass(frozen=True, eq=False)
class Selection:
    """``champions``: by series, a model or ``COMBINATION``. ``weights``: shape (models, series), each model's part in
    the band. ``scores``: by model, shape (series,), the loss relative to the seasonal naive's, NaN where unknown.
    """

    names: tuple[str, ...]
    champions: tuple[str, ...]
    weights: Floats
    scores: Mapping[str, Floats]


def losses(predicted: Mapping[str, Floats], truth: Floats, age: Floats, day: int) -> Losses:
    """What each model lost, newer origins counting more.

    ``predicted``: by model, shape (origins, series, horizon, 7); ``truth``: (origins, series, horizon), NaN where it
    is not known or has not come yet; ``age``: days since each origin. Where one of the models that know a series at
    all said nothing, no other is judged either, so that all are judged by the same steps.
    """
    names = tuple(predicted)
    each = np.stack([pinball(predicted[name], truth).mean(axis=-1) for name in names])
    takes_part = np.isfinite(each).any(axis=(1, 3))
    judged = (np.isfinite(each) | ~takes_part[:, None, :, None]).all(axis=0) & np.isfinite(truth)
    weight = np.where(judged, 0.5 ** (age / HALF_LIFE)[:, None, None], 0.0)
    total = np.einsum("mosh,osh->ms", np.nan_to_num(each), weight)
    days = np.broadcast_to(weight.sum(axis=(0, 2)) / day, total.shape)
    return Losses(names, np.where(takes_part, total, np.nan), np.where(takes_part, days, 0.0))


def scores(found: Losses, naive: str) -> Floats:
    """Loss relative to that of ``naive``, shape (models, series); NaN where nothing is known.

    What few origins say of one series is drawn to what all series say of the model, on the log scale.
    """
    of_naive = found.total[found.names.index(naive)]
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.log(np.maximum(found.total, 1e-3 * of_naive) / of_naive)
    known = np.isfinite(own)
    count = known.sum(axis=1, keepdims=True)
    common = np.where(known, own, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    belief = found.days / (found.days + BELIEF)
    drawn = np.exp(belief * np.where(known, own, 0.0) + (1.0 - belief) * common)
    return np.where(known, drawn, np.nan)


def combined(predicted: Sequence[Floats], weights: Floats) -> Floats:
    """Weighted mean of the models' quantiles (Vincent 1912), shape of each of ``predicted``: (..., series, horizon, 7).

    ``weights``: (models, series). NaN where a model with a part in it is.
    """
    total = np.zeros(predicted[0].shape)
    for quantiles, weight in zip(predicted, weights, strict=True):
        part = weight[:, None, None]
        total += np.where(part > 0, part * np.where(part > 0, quantiles, 0.0), 0.0)
    return np.where(weights.sum(axis=0)[:, None, None] > 0, total, np.nan)


def select(
    predicted: Mapping[str, Floats],
    truth: Floats,
    age: Floats,
    day: int,
    naive: str,
    before: Sequence[str | None],
    able: Mapping[str, Bools],
) -> Selection:
    """The champion of each series, from losses at past origins (``losses`` says what the arrays are).

    ``before``: the champion of the last run, which stays unless another is clearly better. ``able``: by model, shape
    (series,), whether it has a forecast of the present to offer. A model that lost more than ``naive`` has no part in
    anything; without a known loss the naive answers.
    """
    names = tuple(predicted)
    of_models = scores(losses(predicted, truth, age, day), naive)
    can = np.stack([able[name] for name in names])
    score = np.where(can, of_models, np.nan)
    weights = _weights(score)
    both = combined([predicted[name] for name in names], weights)
    mixed = scores(losses({naive: predicted[naive], COMBINATION: both}, truth, age, day), naive)[1]
    several = (weights > 0).sum(axis=0) > 1
    mixed = np.where(several & np.isfinite(mixed), mixed, np.inf)
    candidates = np.concatenate([np.where(np.isfinite(score), score, np.inf), mixed[None]])
    at_naive = names.index(naive)
    candidates[at_naive] = np.where(can[at_naive], 1.0, np.inf)
    best = candidates.argmin(axis=0)
    every = (*names, COMBINATION)
    for row, name in enumerate(before):
        if name in every:
            present = candidates[every.index(name), row]
            if present <= 1.0 and present * STAYS <= candidates[best[row], row]:
                best[row] = every.index(name)
    alone = (np.arange(len(names))[:, None] == best[None]).astype(float)
    known = {name: of_models[at] for at, name in enumerate(names)}
    return Selection(
        names,
        tuple(every[at] for at in best),
        np.where(best == len(names), weights, alone),
        {**known, COMBINATION: np.where(np.isfinite(mixed), mixed, np.nan)},
    )


def _weights(score: Floats) -> Floats:
    """Of each model in the combination, shape (models, series); each series' add up to 1, or are all 0."""
    with np.errstate(invalid="ignore"):
        good = np.isfinite(score) & (score <= 1.0)
        best = np.where(good, score, np.inf).min(axis=0)
        near = good & (score <= TOLERANCE * best)
        raw = np.where(near, np.maximum(score, 1e-3) ** -SHARPNESS, 0.0)
    total = raw.sum(axis=0)
    return raw / np.where(total > 0, total, 1.0)
