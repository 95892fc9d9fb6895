"""`foreshard pgbouncer render` on a fleet of its own; PgBouncer need not be installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import BUCKETS, MovingFleet


def test_the_map_is_printed_written_and_told_as_json_and_a_split_bucket_is_refused(
    fleet: MovingFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", fleet.settings.control.dsn)

    def render(*options: str) -> str:
        said = CliRunner().invoke(app, ["pgbouncer", "render", *options])
        assert said.exit_code == 0, said.output
        return said.stdout

    file = tmp_path / "foreshard.ini"
    assert render("--out", str(file)) == ""
    assert file.read_text() == render()
    document = json.loads(render("--json"))
    source, target = (str(shard.server.port) for shard in (fleet.pair.source, fleet.pair.target))
    assert [one["bucket"] for one in document["aliases"]] == list(fleet.all_buckets)
    assert {one["port"] for one in document["aliases"]} == {source}
    assert "password" not in file.read_text().replace("Passwords", "")

    with fleet.runner() as runner:
        runner.work.store.set_routing(runner.work.lease, bound=SLOTS)
        there = {one["bucket"]: one["port"] for one in json.loads(render("--json"))["aliases"]}
        assert {bucket for bucket, port in there.items() if port == target} == set(BUCKETS)
        runner.work.store.set_routing(runner.work.lease, bound=100)
        refused = CliRunner().invoke(app, ["pgbouncer", "render", "--out", str(file)])
        runner.work.store.set_routing(runner.work.lease, bound=0)
    assert refused.exit_code == 1
    assert "has its keys on two shards" in refused.stderr
    assert source in file.read_text()
