"""The catalogue keeps to Prometheus' conventions, and the docs to the catalogue."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foreshard.alerts.alert import KINDS
from foreshard.metrics.catalogue import CATALOGUE, Kind, MetricSpec
from foreshard.metrics.prometheus import FleetCollector
from foreshard.metrics.reading import Reading
from foreshard.metrics.samples import STAGES
from foreshard.migration.lifecycle import ENDS, Stage

PAGE = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text(encoding="utf-8")
IN_NAME = {
    "seconds": "_seconds",
    "bytes": "_bytes",
    "bytes/s": "_bytes_per_second",
    "share of capacity": "_ratio",
}


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_a_metric(spec: MetricSpec) -> None:
    assert re.fullmatch(r"foreshard_[a-z_]+", spec.name)
    assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER)
    assert spec.name.endswith(IN_NAME.get(spec.unit, ""))
    assert spec.name.endswith("_timestamp_seconds") == (spec.unit == "seconds since 1970")
    assert all(re.fullmatch(r"[a-z_]+", label) for label in spec.labels)
    assert spec.text.endswith(".")
    kind = "" if spec.kind is Kind.GAUGE else f" ({spec.kind})"
    row = f"| `{spec.name}`{kind} | {', '.join(spec.labels)} | {spec.unit} | {spec.text} |"
    assert row in PAGE.splitlines()


def test_no_name_twice_and_the_page_names_no_other() -> None:
    names = [spec.name for spec in CATALOGUE]
    assert len(names) == len(set(names))
    assert set(re.findall(r"^\| `(foreshard_\w+)`", PAGE, re.M)) == set(names)


def test_the_page_has_every_alert() -> None:
    for kind, words in KINDS.items():
        assert f"| {words.title} | `{kind}` | {words.meaning} | {words.remedy} |" in PAGE.splitlines()


def test_every_stage_has_a_number() -> None:
    assert set(STAGES) == set(Stage) - ENDS
    assert (STAGES[Stage.PREFLIGHT], STAGES[Stage.FINALISE], STAGES[Stage.REVERSING]) == (1, 10, 12)


def test_a_scrape_never_raises() -> None:
    def broken() -> Reading:
        raise RuntimeError("")

    up, duration = FleetCollector(broken).collect()
    assert [one.value for one in up.samples] == [0.0]
    assert duration.samples[0].value >= 0
    good = list(FleetCollector(lambda: Reading(datetime.now(UTC), timedelta(0))).collect())
    assert good[0].samples[0].value == 1.0
    assert "foreshard_migrations" in {one.name for one in good}
