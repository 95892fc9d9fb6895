"""Metrics read from a real control database."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.metrics.catalogue import CATALOGUE, Kind
from foreshard.metrics.prometheus import exposition
from foreshard.metrics.reader import read
from foreshard.settings import Settings
from tests import measured_fleet

Values = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture
def settings(control: ControlDatabase) -> Settings:
    return Settings(control={"dsn": control.conninfo})


def scraped(control: ControlDatabase, settings: Settings) -> Values:
    """What Prometheus would get: metric -> labels -> value."""
    found: Values = {}
    for family in text_string_to_metric_families(exposition(lambda: read(control, settings))):
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(sorted(one.labels.items()))] = one.value
    return found


def test_everything_in_the_catalogue_is_told(control: ControlDatabase, settings: Settings) -> None:
    measured_fleet.fill(control)
    found = scraped(control, settings)
    for spec in CATALOGUE:
        name = f"{spec.name}_bucket" if spec.kind is Kind.HISTOGRAM else spec.name
        assert name in found, name
        labels = {label for one in found[name] for label, _ in one}
        assert labels == set(spec.labels) | ({"le"} if spec.kind is Kind.HISTOGRAM else set()), name
        assert "bucket" not in spec.labels


def test_the_figures(control: ControlDatabase, settings: Settings) -> None:
    leases = measured_fleet.fill(control)
    found = scraped(control, settings)

    def value(name: str, **labels: object) -> float:
        wanted = {(label, str(one)) for label, one in labels.items()}
        (one,) = (value for labels, value in found[f"foreshard_{name}"].items() if wanted <= set(labels))
        return one

    load = {"resource": "cpu_cores"}
    assert value("up") == 1
    assert value("shard_utilisation_ratio", shard="shard-2", **load) == pytest.approx(0.9)
    assert value("shard_forecast_peak_ratio", shard="shard-2", quantile="0.5", **load) == pytest.approx(1.1)
    assert value("shard_forecast_peak_ratio", shard="shard-2", quantile="0.9", **load) == pytest.approx(1.276)
    assert value("shard_exceed_probability", shard="shard-2", **load) == pytest.approx(0.7273, abs=0.001)
    assert value("shard_exceed_probability", shard="shard-4", **load) < 0.001
    exceeds = found["foreshard_shard_exceed_timestamp_seconds"]
    assert {dict(labels)["shard"] for labels in exceeds} == {"shard-2"}
    assert 0 < value("shard_exceed_timestamp_seconds", shard="shard-2", **load) - time.time() < 12 * 3600
    assert time.time() - value("shard_last_sample_timestamp_seconds", shard="shard-1") < 60
    assert value("shard_buckets", shard="shard-1") == 3
    assert value("forecast_series", model="lightgbm") == 8
    assert (value("forecast_notes"), value("forecast_duration_seconds")) == (1, 12.5)
    assert value("plans", state="migrating") == 3
    copying, waiting = leases["copying"].migration, leases["waiting"].migration
    assert value("migration_stage", migration=copying) == 3
    assert value("migration_progress_ratio", migration=copying) == pytest.approx(0.4)
    assert value("migration_lag_seconds", migration=copying, direction="reverse") == pytest.approx(0.2)
    assert value("migration_wal_kept_bytes", migration=copying, shard="shard-4") == 5e6
    asked = found["foreshard_migration_approval_requested_timestamp_seconds"]
    assert [dict(labels)["migration"] for labels in asked] == [str(waiting)]
    assert value("migration_start_by_timestamp_seconds", migration=waiting) - time.time() == pytest.approx(
        3 * 3600, abs=60
    )
    assert value("flips_total", kind="cutover") == value("flips_total", kind="canary") == 1
    assert found["foreshard_flip_pause_seconds_sum"][(("kind", "cutover"),)] == pytest.approx(0.031)
    assert value("migration_shadow_reads_total", outcome="mismatched") == 1
    assert value("routers", application="shop", state="live") == 1


def test_times_are_real_ones_whatever_the_fleet_clock_says(control: ControlDatabase) -> None:
    measured_fleet.fill(control)  # by real time: an hour ago, by a clock that is an hour ahead
    settings = Settings(control={"dsn": control.conninfo}, clock={"offset_seconds": 3600})
    reading = read(control, settings)
    assert reading.offset == timedelta(hours=1)
    (plan,) = reading.plans
    assert plan.start_by is not None
    assert plan.start_by - reading.at == pytest.approx(timedelta(hours=4), abs=timedelta(minutes=1))
    assert all(one.utilisation is None for shard in reading.shards for one in shard.resources)


def test_an_empty_control_database_and_one_that_is_away(control: ControlDatabase, settings: Settings) -> None:
    assert scraped(control, settings)["foreshard_up"] == {(): 1.0}
    away = ControlDatabase("host=127.0.0.1 port=1 dbname=nowhere")
    found = scraped(away, settings)
    away.close()
    assert found["foreshard_up"] == {(): 0.0}
    assert set(found) == {"foreshard_up", "foreshard_read_duration_seconds"}


def test_a_scrape_gives_up_when_a_table_is_locked(
    control: ControlDatabase, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with control.connect() as holder, monkeypatch.context() as impatient:
        impatient.setattr("foreshard.metrics.reader.TIMEOUT_S", 0.2)
        holder.execute("LOCK TABLE flips")
        begun = time.monotonic()
        assert scraped(control, settings)["foreshard_up"] == {(): 0.0}
        assert time.monotonic() - begun < 5
    assert scraped(control, settings)["foreshard_up"] == {(): 1.0}


def test_the_command_prints_them(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_fleet.fill(control)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control.conninfo)
    said = CliRunner().invoke(app, ["metrics"])
    assert said.exit_code == 0, said.output
    assert 'foreshard_shard_buckets{shard="shard-1"} 3.0' in said.output.splitlines()
    listed = json.loads(CliRunner().invoke(app, ["metrics", "--json"]).output)
    assert {"name": "foreshard_shard_buckets", "labels": {"shard": "shard-1"}, "value": 3.0} in listed
