"""The models that compete, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from foreshard.forecast.models.ets import Ets
from foreshard.forecast.models.lightgbm import Lightgbm
from foreshard.forecast.models.lightgbm_direct import LightgbmDirect
from foreshard.forecast.models.lstm import Lstm
from foreshard.forecast.models.model import Fitted, Model
from foreshard.forecast.models.prophet import ProphetModel
from foreshard.forecast.models.seasonal_naive import SeasonalNaive
from foreshard.forecast.panel import Panel

NAIVE = SeasonalNaive.name


class KeptFit(Fitted, Protocol):
    """A global model's fit, which can be kept and is good for series that it never saw."""

    def to_bytes(self) -> bytes:
        """To be kept as the last known good."""
        ...


class GlobalModel(Model, Protocol):
    """Learns from all series together."""

    def fit(self, panel: Panel, horizon: int, seed: int) -> KeptFit:
        """See ``Model.fit``."""
        ...

    def restored(self, stored: bytes) -> KeptFit:
        """What ``KeptFit.to_bytes`` wrote."""
        ...


@dataclass(frozen=True)
class LocalCandidate:
    """A model of each series by itself; ``fits``: how often it is fitted to judge it by its past."""

    make: Callable[[], Model]
    fits: int


GLOBAL: dict[str, Callable[[], GlobalModel]] = {
    Lightgbm.name: Lightgbm,
    LightgbmDirect.name: LightgbmDirect,
    "lstm": Lstm,
}
LOCAL: dict[str, LocalCandidate] = {
    Ets.name: LocalCandidate(Ets, 1),
    ProphetModel.name: LocalCandidate(ProphetModel, 2),
}
DEFAULT = (NAIVE, Ets.name, ProphetModel.name, LightgbmDirect.name, Lightgbm.name)
"""All but the LSTM, which needs an extra and gained little where it was tried."""
