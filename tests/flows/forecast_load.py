"""Load to forecast in tests of the flow, and settings that make it quick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.load.sample import Sample
from tests.flows.conftest import BUCKETS

HOUR = timedelta(hours=1)
RATE = "queries_per_s"

SETTINGS = {
    "HORIZON_HOURS": "6",
    "MODELS": '["seasonal_naive", "ets"]',  # quick ones: what is tested is the flow
    "CHUNK_SERIES": "2",
}


def put_load(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three weeks of hours: days and nights, near the first shard's capacity; b0003 never does anything.

    The day's peak is six hours ahead, at whatever time this runs.
    """
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"FORESHARD_FORECAST__{name}", value)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    rng = np.random.default_rng(5)
    samples = []
    for hours_ago in range(21 * 24):
        ts = now - hours_ago * HOUR
        day = 20 - 12 * np.sin(2 * np.pi * hours_ago / 24)
        for number, bucket in enumerate(BUCKETS):
            value = 0.0 if bucket == "b0003" else day * (1 + 0.1 * number) * (1 + 0.02 * rng.normal())
            samples.append(Sample(ts, "shard-1", bucket, RATE, float(value)))
    LoadStore(control).add(samples, "live")
