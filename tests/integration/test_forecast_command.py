"""`foreshard forecast` on a real control database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.forecast.band import Band
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.load.sample import Sample
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)
RATE = "queries_per_s"
ODD = "b 'one' \"two\" / [red]"
BUCKETS = ("b0000", ODD, "shard-2", *(f"c{number:04}" for number in range(60)))

Call = Callable[..., Result]


def result(key: SeriesKey, level: float, step: timedelta, note: str = "") -> ForecastResult:
    steps = pd.date_range(NOW, periods=8, freq=step)
    band = Band(steps, np.full((8, 1), level) * np.array([0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]))
    peak = Peak(np.linspace(0.9, 1.4, len(PEAK_LEVELS)) * level)
    scores = {"seasonal_naive": 1.0, "ets": 0.8}
    return ForecastResult(key, band, peak, "ets", {"ets": 1.0}, scores, 0.92, NOW - 9 * HOUR, NOW, 9, note)


@pytest.fixture
def call(control: ControlDatabase, control_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """With a forecast in hours, then one in steps of 15 minutes, of two shards and some buckets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for name in ("shard-1", "shard-2"):
        topology.put_shard(ShardRecord(name, "host=a", "host=a", {RATE: 100.0}))
    topology.put_buckets(BUCKETS, Placement(dict.fromkeys(BUCKETS, "shard-1")))
    LoadStore(control).add(
        [Sample(NOW - ago * HOUR, "shard-1", one, RATE, 3.0) for ago in range(30) for one in BUCKETS], "live"
    )
    for step in (HOUR, timedelta(minutes=15)):
        results = [result(SeriesKey(None, one, RATE), 3.0 + at, step) for at, one in enumerate(BUCKETS)]
        results.append(result(SeriesKey("shard-1", None, RATE), 110.0, step, "an outage was masked"))
        results.append(result(SeriesKey("shard-2", None, RATE), 1.0, step))
        ForecastStore(control).save(
            NOW, results, step=step, horizon_hours=8 * (step / HOUR), live_samples_used=0, seconds=1.0,
            notes=["lightgbm: the fit of before is used"] if step == HOUR else [],
        )  # fmt: skip
    return lambda *arguments: CliRunner().invoke(app, ["forecast", *arguments])


def test_the_list(call: Call) -> None:
    said = call("--step", "60")
    assert said.exit_code == 0
    lines = said.output.splitlines()
    assert lines[0].startswith("Forecast 1 of ")
    assert "8 h in steps of 1 h" in lines[0]
    assert lines[1] == "lightgbm: the fit of before is used"
    (shard,) = [line for line in lines if line.startswith("shard-1/queries_per_s*")]  # * for a note
    assert all(part in shard for part in ("ets", "0.80", "92%", "100 queries/s", " %"))
    assert "... and 23 buckets with lower peaks" in said.output
    assert "c0000/queries_per_s" in call("--all").output
    document = json.loads(call("--json").output)
    assert (document["run"], document["step_s"], len(document["series"])) == (2, 900, 65)
    (risky,) = [one for one in document["series"] if one["shard"] == "shard-1"]
    assert 0.5 < risky["p_exceed"] <= 1


def test_one_series(call: Call, tmp_path: Path) -> None:
    said = call("--series", f"{ODD}/{RATE}", "--run", "1")
    assert said.exit_code == 0
    assert f"{ODD}/{RATE} by ets, score 0.80, coverage 92%" in said.output
    assert len([line for line in said.output.splitlines() if line.startswith("20")]) == 8
    shard = call("--series", f"shard-1/{RATE}", "--plot", "--png", "one.png")
    assert shard.exit_code == 0
    assert "an outage was masked" in shard.output
    assert "capacity 100 queries/s" in shard.output
    assert "━" in shard.output
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads(call("--series", f"b0000/{RATE}", "--json").output)
    assert np.shape(document["quantiles"]) == (8, 7)
    assert (document["capacity"], document["scores"]["ets"]) == (None, 0.8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--series", f"b0001/{RATE}"), "Did you mean c0001/queries_per_s, b0000/queries_per_s"),
        (("--series", "b0000"), "Did you mean b0000/queries_per_s"),
        (("--series", "b0000/cpu_cores"), "is not in forecast 2"),
        (("--series", "///"), "`foreshard forecast` lists the series"),
        (("--series", f"shard-2/{RATE}"), "is a shard and a bucket"),
        (("--plot",), "--series: is missing"),
        (("--step", "7"), "--step: 7 is none of 5, 15 and 60"),
        (("--step", "5"), "There is no forecast in steps of 5 minutes yet"),
        (("--run", "9"), "There is no forecast 9"),
        (("--run", "1", "--step", "60"), "exclude each other"),
        (("--series", f"b0000/{RATE}", "--png", "one.jpg"), "does not end in .png"),
        (("--series", f"b0000/{RATE}", "--png", "nowhere/one.png"), "cannot be written"),
    ],
)
def test_what_cannot_be_shown(call: Call, arguments: tuple[str, ...], said: str) -> None:
    refused = call(*arguments)
    assert refused.exit_code in (1, 2)
    assert said in refused.output


def test_which_of_two_of_one_name(call: Call) -> None:
    for kind, capacity in (("shard", 100.0), ("bucket", None)):
        document = json.loads(call("--series", f"{kind}:shard-2/{RATE}", "--json").output)
        assert document["capacity"] == capacity
