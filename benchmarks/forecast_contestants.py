"""The models that take part, by name; those whose library is not installed are left out and said so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module

from benchmarks.forecast_walk import Contestant
from foreshard.errors import InvalidInput
from foreshard.forecast.panel import DAY

HALF_WEEK = timedelta(hours=84)

KNOWN = {
    "seasonal_naive": ("seasonal_naive", "SeasonalNaive", DAY, True),
    "ets": ("ets", "Ets", DAY, True),
    "prophet": ("prophet", "ProphetModel", HALF_WEEK, True),
    "lstm": ("lstm", "Lstm", HALF_WEEK, False),
    "lightgbm_direct": ("lightgbm_direct", "LightgbmDirect", DAY, False),
    "lightgbm": ("lightgbm", "Lightgbm", DAY, False),
}
"""Module and class, the least time between two fits, and whether each series is fitted by itself."""


def contestants(names: Sequence[str], refit: timedelta) -> tuple[dict[str, Contestant], list[str]]:
    """The models called ``names``, refitted no more often than ``refit``, and a line for each that is not there.

    Raises ``InvalidInput`` (field ``models``) for another name.
    """
    if unknown := [name for name in names if name not in KNOWN]:
        raise InvalidInput("models", f"there is no model {', '.join(unknown)}; models are {', '.join(KNOWN)}")
    there: dict[str, Contestant] = {}
    absent = []
    for name in names:
        module, model, often, local = KNOWN[name]
        try:
            found = getattr(import_module(f"foreshard.forecast.models.{module}"), model)
        except (ImportError, AttributeError) as error:
            absent.append(f"{name} left out: {error}")
        else:
            there[name] = Contestant(found(), max(often, refit), local)
    return there, absent
