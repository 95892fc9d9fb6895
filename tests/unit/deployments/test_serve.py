"""Serving: temporary files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from deployments.serve import use_own_scratch


def test_temporary_files_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "dbname=foreshard")
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(tmp_path / "state"))
    scratch = use_own_scratch()
    assert scratch == tmp_path / "state" / "tmp"
    assert Path(tempfile.mkdtemp()).parent == scratch
    assert os.environ["TMPDIR"] == str(scratch)
