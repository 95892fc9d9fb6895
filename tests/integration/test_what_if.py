"""`foreshard what-if` on a real control database: a placement that is only thought of."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import forecast_input
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.forecast.forecast_options import ForecastOptions
from foreshard.forecast.models.lightgbm_direct import LightgbmDirect
from foreshard.forecast.models.quantile_trees import Growth
from foreshard.forecast.training import train
from foreshard.load.sample import Sample
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
RATE = "queries_per_s"
LIES = {"a": "one", "b": "one", "big c": "one", "d": "two"}
SIZE = {"a": 10.0, "b": 20.0, "big c": 60.0, "d": 10.0}

Call = Callable[..., Result]


@pytest.fixture
def fleet(
    control: ControlDatabase, control_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ControlDatabase:
    """Two shards with twelve days of load."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.setenv("FORESHARD_FORECAST__MODELS", '["seasonal_naive", "lightgbm_direct"]')
    monkeypatch.setattr(LightgbmDirect, "growth", Growth(rounds=60, learning_rate=0.15))
    monkeypatch.setattr(LightgbmDirect, "samples", 15_000)
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for name in ("one", "two", "three"):
        topology.put_shard(ShardRecord(name, "host=a", "host=a", {RATE: 100.0}))
    topology.put_buckets(tuple(LIES), Placement(dict(LIES)))
    rng = np.random.default_rng(5)
    LoadStore(control).add(
        [
            Sample(
                NOW - ago * HOUR,
                LIES[bucket],
                bucket,
                RATE,
                float(SIZE[bucket] * (1 + 0.3 * np.sin(ago * np.pi / 12)) * rng.lognormal(0, 0.05)),
            )
            for ago in range(24 * 12)
            for bucket in LIES
        ],
        "live",
    )
    return control


@pytest.fixture
def call(fleet: ControlDatabase) -> Call:
    """After a forecast's training."""
    panel = forecast_input(fleet, NOW, timedelta(days=42)).panel
    trained = train(panel, ForecastOptions(24, ("lightgbm_direct",)))
    assert trained.notes == ()
    span = panel.starts_at, panel.ends_at
    ForecastStore(fleet).keep(HOUR, trained.kept(), NOW, span, len(panel.keys))
    return lambda *arguments: CliRunner().invoke(app, ["what-if", *arguments])


def test_both_shards_as_they_are_and_as_they_would_be(call: Call, fleet: ControlDatabase) -> None:
    said = call("big c=two", "--json")
    assert said.exit_code == 0, said.output
    of = {one["shard"]: one for one in json.loads(said.output)}
    assert set(of) == {"one", "two"}, "only what changes"
    assert of["one"]["peak_now"] == pytest.approx(90 * 1.3, rel=0.2)
    assert of["one"]["peak_then"] == pytest.approx(30 * 1.3, rel=0.25)
    assert of["two"]["peak_now"] == pytest.approx(10 * 1.3, rel=0.25)
    assert of["two"]["peak_then"] == pytest.approx(70 * 1.3, rel=0.2)
    assert of["one"]["p_exceed_now"] > 0.9
    assert of["one"]["p_exceed_then"] < 0.1
    assert TopologyStore(fleet).placement().of == LIES, "nothing is changed"
    table = call("big c=three", "a=two").output
    lines = [line for line in table.splitlines() if RATE in line and "capacity" not in line]
    assert [line.split()[0].split("/")[0] for line in lines[:3]] == ["one", "three", "two"], table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("b0",), "is not BUCKET=SHARD"),
        (("e=two",), "there is no bucket 'e'"),
        (("a=four",), "there is no shard 'four'"),
        (("a=one",), "leave every bucket where it is"),
        (("a=two", "a=three"), "name a bucket twice"),
    ],
)
def test_bad_moves_are_refused(call: Call, arguments: tuple[str, ...], said: str) -> None:
    refused = call(*arguments)
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.split())


@pytest.mark.usefixtures("fleet")
def test_before_any_forecast() -> None:
    refused = CliRunner().invoke(app, ["what-if", "a=two"])
    assert refused.exit_code in (1, 2)
    assert "No forecast has been made yet" in refused.output
