"""Serving: temporary files, and a Prefect server that is away."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from deployments import serve
from deployments.serve import use_own_scratch
from foreshard.errors import ForeshardError


def test_temporary_files_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "dbname=foreshard")
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(tmp_path / "state"))
    scratch = use_own_scratch()
    assert scratch == tmp_path / "state" / "tmp"
    assert Path(tempfile.mkdtemp()).parent == scratch
    assert os.environ["TMPDIR"] == str(scratch)


class Away:
    """A client whose server answers the ``answers``-th time."""

    api_url = "http://p/api"

    def __init__(self, answers: int) -> None:
        self._left = answers

    def __enter__(self) -> Away:
        return self

    def __exit__(self, *_: object) -> None: ...

    def api_healthcheck(self) -> Exception | None:
        self._left -= 1
        return None if self._left < 1 else ConnectionError("refused")


def test_it_waits_for_prefect_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "get_client", lambda **_: Away(3))
    monkeypatch.setattr(serve.time, "sleep", lambda _: None)
    said: list[str] = []
    serve.wait_for_prefect(said.append, 60)
    assert said == ["Prefect at http://p/api does not answer yet; waiting up to 60 s."]


def test_it_gives_up_after_the_stated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "get_client", lambda **_: Away(3))
    with pytest.raises(ForeshardError, match="did not answer within 0 s: refused") as given_up:
        serve.wait_for_prefect(lambda _: None, 0)
    assert "prefect server start" in (given_up.value.remedy or "")
