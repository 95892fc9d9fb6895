"""`foreshard load shares`: from stored samples to a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from foreshard.cli_load_shares import commands
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import ForecastInput, forecast_input
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.panel import Values
from foreshard.load.sample import Sample
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
HOURS = [NOW - timedelta(hours=n) for n in range(120, 0, -1)]
MOVED = 90
BUCKETS = ("a", "b", "c")


@pytest.fixture
def control(control_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlDatabase]:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    database = ControlDatabase(control_dsn)
    database.migrate()
    topology = TopologyStore(database)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in ("one", "two"):
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", {"cpu_cores": 2.0}))
    topology.put_buckets(BUCKETS, Placement({"a": "one", "b": "one", "c": "two"}))
    yield database
    database.close()


def samples() -> list[Sample]:
    """Bucket c lay on "one" for 90 hours, then on "two"; it costs twice what the others do."""
    draw = np.random.default_rng(1)
    found = []
    for number, hour in enumerate(HOURS):
        load = {"one": 0.1, "two": 0.05}
        for bucket, cost in zip(BUCKETS, (0.001, 0.001, 0.002), strict=True):
            shard = (
                "two"
                if bucket == "c" and number >= MOVED
                else "one"
                if bucket != "c" or number < MOVED
                else ""
            )
            rate = 100 * (1 + draw.random())
            found.append(Sample(hour, shard, bucket, "queries_per_s", rate))
            load[shard] += cost * rate
        found += [Sample(hour, shard, None, "cpu_cores", value) for shard, value in load.items()]
    return found


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.add_typer(commands)
    app.command("other")(lambda: None)  # with one command only, Typer would take none's name
    result = CliRunner().invoke(app, ["shares", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_shares_of_the_present_placement(control: ControlDatabase) -> None:
    LoadStore(control).add(samples(), "history")
    one, two = json.loads(run("--json"))
    assert (one["shard"], one["metric"], one["hours"]) == ("one", "cpu_cores", 120)
    assert one["buckets"]["a"]["mean"] == pytest.approx(0.15, rel=0.05)
    assert list(two["buckets"]) == ["c"]
    # c took its 90 hours on "one" along.
    assert two["hours"] == 120
    assert two["buckets"]["c"]["mean"] == pytest.approx(0.3, rel=0.05)
    assert two["own"]["mean"] == pytest.approx(0.05, abs=0.02)
    assert two["own"]["share"] + two["buckets"]["c"]["share"] == pytest.approx(1.0)
    assert one["fit"]["r_squared"] > 0.95
    told = run("--shard", "two")
    assert "the shard's own" in told
    assert "R2 " in told
    assert max(map(len, told.splitlines())) <= 80


def test_a_forecasts_input_is_the_same_before_and_after_the_move(control: ControlDatabase) -> None:
    store = LoadStore(control)
    early, late = HOURS[MOVED - 1], HOURS[-1]
    store.add([one for one in samples() if one.ts <= early], "history")
    before = forecast_input(control, early, timedelta(days=9))
    store.add(samples(), "history")
    after = forecast_input(control, late, timedelta(days=9))
    assert before.since == after.since
    for key in ("one/cpu_cores", "two/cpu_cores"):
        told, told_later = (row(one, key)[: MOVED - 1] for one in (before, after))
        assert told_later == pytest.approx(told, rel=0.03)


def row(found: ForecastInput, key: str) -> Values:
    return found.panel.values[[str(one) for one in found.panel.keys].index(key)]


@pytest.mark.usefixtures("control")
def test_what_cannot_be_shown_is_refused_by_name() -> None:
    for arguments, field in (
        (["--shard", "three"], "--shard"),
        (["--metric", "rows"], "--metric"),
        (["--since", "yesterday"], "--since"),
        (["--since", "0d"], "--since"),
    ):
        with pytest.raises(InvalidInput) as refused:
            run(*arguments)
        assert refused.value.field == field
    with pytest.raises(NotFound, match="last 7d"):
        run()
