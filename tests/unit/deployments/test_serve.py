"""Serving: temporary files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from deployments.serve import EVERY_HOUR, deployments, use_own_scratch


def test_temporary_files_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "dbname=foreshard")
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(tmp_path / "state"))
    scratch = use_own_scratch()
    assert scratch == tmp_path / "state" / "tmp"
    assert Path(tempfile.mkdtemp()).parent == scratch
    assert os.environ["TMPDIR"] == str(scratch)


def test_forecasts_are_made_every_hour() -> None:
    (forecast,) = [one for one in deployments() if one.flow_name == "forecast"]
    (schedule,) = forecast.schedules or []
    assert getattr(schedule.schedule, "interval", None) == EVERY_HOUR
    properties = forecast._parameter_openapi_schema.properties
    assert properties.keys() == {"horizon_hours", "step_minutes", "metrics", "models"}
    assert all(one.get("description") for one in properties.values())
