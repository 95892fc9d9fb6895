"""`foreshard simulate` on a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshard.cli import app
from tests.unit.load.test_trace_file import written

FAST = ["--days", "2", "--shards", "3", "--buckets", "12", "--policies", "none,reactive,oracle"]


def test_it_replays_a_file(tmp_path: Path) -> None:
    file, found, page = written(tmp_path), tmp_path / "value.json", tmp_path / "value.html"
    ran = CliRunner().invoke(
        app, ["simulate", "--traces", str(file), *FAST, "--json", str(found), "--page", str(page)]
    )
    assert ran.exit_code == 0, ran.output
    assert "oracle" in ran.output
    ways = json.loads(found.read_text())["ways"]
    assert list(ways) == ["none", "reactive", "oracle"]
    assert ways["oracle"]["saturated_shard_minutes"] <= ways["none"]["saturated_shard_minutes"]
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--policies", "clever"], "clever"),
        (["--models", "clever"], "clever"),
        (["--traces", "nowhere.parquet"], "no file"),
        (["--buckets", "4"], "--traces"),
        (["--page", "/nowhere/at/all.html"], "no folder"),
    ],
)
def test_what_cannot_be_used_is_told(given: list[str], said: str) -> None:
    ran = CliRunner().invoke(app, ["simulate", *given])
    assert ran.exit_code == 2
    assert said in ran.output
