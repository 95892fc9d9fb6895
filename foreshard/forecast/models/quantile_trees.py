"""Gradient boosted trees (LightGBM), one ensemble for each quantile of a band."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from foreshard.errors import ConfigurationError
from foreshard.forecast.band import QUANTILES, Floats

if TYPE_CHECKING:
    import lightgbm as lgb

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Growth:
    """How an ensemble is grown."""

    rounds: int
    learning_rate: float
    leaves: int = 31
    fewest_in_leaf: int = 50
    bins: int = 63
    of_features: float = 0.8
    of_samples: float = 0.8


@dataclass(frozen=True, eq=False)
class QuantileTrees:
    """``ensembles``: one for each of ``QUANTILES``."""

    ensembles: tuple[lgb.Booster, ...]

    @classmethod
    def grown(
        cls, features: Features, target: Floats, growth: Growth, threads: int, seed: int
    ) -> QuantileTrees:
        """Fitted to ``features`` (samples, features), where NaN is "not known", and ``target`` (samples,).

        Raises ``ConfigurationError`` where LightGBM's library cannot be loaded.
        """
        lightgbm = _lightgbm()
        common = {
            "objective": "quantile",
            "learning_rate": growth.learning_rate,
            "num_leaves": growth.leaves,
            "min_data_in_leaf": growth.fewest_in_leaf,
            "feature_fraction": growth.of_features,
            "bagging_fraction": growth.of_samples,
            "bagging_freq": 1,
            "max_bin": growth.bins,
            "seed": seed,
            "num_threads": threads,
            "deterministic": True,
            "force_col_wise": True,
            "verbose": -1,
        }
        # Binned once for all seven.
        data = lightgbm.Dataset(features, target, params=common, free_raw_data=False).construct()
        return cls(
            tuple(lightgbm.train({**common, "alpha": level}, data, growth.rounds) for level in QUANTILES)
        )

    def predict(self, features: Features, threads: int) -> Floats:
        """Shape (samples, 7), sorted."""
        each = [ensemble.predict(features, num_threads=threads) for ensemble in self.ensembles]
        return np.sort(np.stack([np.asarray(one, float) for one in each], axis=1), axis=1)

    def to_bytes(self) -> bytes:
        """LightGBM's own text of each ensemble, compressed."""
        return zlib.compress(json.dumps([each.model_to_string() for each in self.ensembles]).encode())

    @classmethod
    def from_bytes(cls, stored: bytes) -> QuantileTrees:
        """What ``to_bytes`` wrote."""
        lightgbm = _lightgbm()
        return cls(tuple(lightgbm.Booster(model_str=text) for text in json.loads(zlib.decompress(stored))))


def _lightgbm() -> Any:
    try:
        import lightgbm
    except OSError as error:  # its wheel links to the system's OpenMP
        raise ConfigurationError(
            "lightgbm",
            f"LightGBM's library cannot be loaded ({error}).",
            remedy="Install OpenMP's runtime: on Debian `apt-get install libgomp1`; or leave lightgbm out of"
            " forecast.models.",
        ) from None
    return lightgbm
