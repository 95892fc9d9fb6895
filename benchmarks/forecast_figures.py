"""What a walk is worth: figures of one group of series, over one horizon, of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.forecast_walk import Predictions, Walk
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.scores import (
    Bools,
    absolute_error,
    brier,
    coverage,
    mean_pinball,
    points,
    precision_at_recall,
    relative,
    reliability,
    weighted_pinball,
)

IN_BAND = (0.85, 0.95)
RECALL = 0.8


@dataclass(frozen=True, eq=False)
class Said:
    """What one model said of some series, over one horizon: quantiles, alarms, and what came.

    ``quantiles``: (origins, series, horizon, 7); ``naive``: the band of the seasonal naive, the same; ``reference``,
    ``truth``: (origins, series, horizon); ``alarm``, ``happened``: (origins, series).
    """

    quantiles: Floats
    naive: Floats | None
    reference: Floats
    truth: Floats
    alarm: Floats
    happened: Floats


def said(
    walk: Walk,
    quantiles: Floats | Predictions,
    rows: Bools,
    steps: int,
    naive: Floats | Predictions | None,
    alarm: Floats,
) -> Said:
    """The first ``steps`` of each origin whose whole horizon lies within the series' judged window.

    ``naive``: what the seasonal naive said; ``alarm``: probabilities, shape (origins, series).
    """
    whole = walk.judged & (walk.origins[:, None] + steps <= walk.grid.end)
    keep = whole.any(axis=1)
    truth = np.where(whole[..., None], walk.truth[:, :, :steps], np.nan)[keep][:, rows]
    of_rows = quantiles[keep][:, rows, :steps].astype(float)
    threshold = walk.threshold[keep][:, rows]
    over = truth > threshold[..., None]
    # Where nothing was seen to exceed, a gap may hide it.
    happened = np.where(over.any(axis=2), 1.0, np.where(np.isfinite(truth).all(axis=2), 0.0, np.nan))
    return Said(
        quantiles=of_rows,
        naive=None if naive is None else naive[keep][:, rows, :steps].astype(float),
        reference=walk.reference[keep][:, rows, :steps],
        truth=truth,
        alarm=alarm[keep][:, rows],
        happened=np.where(np.isfinite(threshold), happened, np.nan),
    )


def figures(all_said: Sequence[Said]) -> Mapping[str, object]:
    """Of series that may come from several walks, each judged by itself."""
    losses = [_losses(each) for each in all_said]
    together = {name: np.concatenate([each[name] for each in losses]) for name in losses[0]}
    told = np.concatenate([each.alarm.ravel() for each in all_said])
    happened = np.concatenate([each.happened.ravel() for each in all_said])
    error = relative(together["error"], together["reference_error"], together["size"])
    pinball = relative(together["pinball"], together["reference_pinball"], together["size"])
    judged = together["points"]
    series = judged > 0
    within = together["coverage"][series]
    found: dict[str, object] = {
        "series": int(series.sum()),
        "series_without_forecast": int((~series).sum()),
        "naive_without_loss": pinball.left_out,
        "points_median": int(np.median(judged[series])) if series.any() else 0,
        "wql_median": _rounded(_median(together["wql"])),
        "rel_mase": _rounded(error.mean),
        "rel_wql": _rounded(pinball.mean),
        "not_worse_share": _rounded(pinball.not_worse),
        "coverage90": _rounded(np.average(within, weights=judged[series]) if series.any() else np.nan),
        "series_in_band_share": _rounded(
            ((within >= IN_BAND[0]) & (within <= IN_BAND[1])).mean() if series.any() else np.nan
        ),
        "brier": _rounded(_mean(together["brier"])),
        "precision_at_recall80": _rounded(precision_at_recall(told, happened, RECALL)),
        "events_share": _rounded(_mean(happened)),
    }
    if "naive_pinball" in together:
        to_band = relative(together["pinball"], together["naive_pinball"], together["size"])
        found["rel_wql_to_band"] = _rounded(to_band.mean)
        found["not_worse_than_band_share"] = _rounded(to_band.not_worse)
    table = reliability(told, happened)
    found["reliability"] = [
        [_rounded(of) for of in (said_there, was_there)] + [int(count)]
        for said_there, was_there, count in zip(table.predicted, table.observed, table.count, strict=True)
    ]
    return found


def _losses(of: Said) -> dict[str, Floats]:
    """By series. Model and reference are compared on the steps that both say something of."""
    judged = np.isfinite(of.quantiles).all(axis=-1) & np.isfinite(of.reference)
    truth = np.where(judged, of.truth, np.nan)
    reference = np.repeat(of.reference[..., None], len(QUANTILES), axis=-1)
    size = np.where(np.isfinite(truth), np.abs(truth), np.nan)
    losses = {
        "wql": weighted_pinball(of.quantiles, truth),
        "pinball": mean_pinball(of.quantiles, truth),
        "reference_pinball": mean_pinball(reference, truth),
        "error": absolute_error(of.quantiles, truth),
        "reference_error": absolute_error(reference, truth),
        "coverage": coverage(of.quantiles, truth),
        "points": points(of.quantiles, truth).astype(float),
        "brier": brier(of.alarm, of.happened),
        "size": np.nansum(size, axis=(0, 2)) / np.maximum(np.isfinite(size).sum(axis=(0, 2)), 1),
    }
    if of.naive is not None:
        both = np.where(np.isfinite(of.naive).all(axis=-1), truth, np.nan)
        losses["naive_pinball"] = mean_pinball(of.naive, both)
    return losses


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _rounded(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return round(float(value), 4) if np.isfinite(value) else None
