"""A fleet that exists is adopted and moved, without superuser: directory, partitions, identity, enum, policies."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.topology_store import TopologyStore
from foreshard.fleet.throwaway import ShardPair
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.settings import ControlSettings, Settings
from tests.integration import second_fleet
from tests.integration.moving_fleet import QUICK, allow, ignore, wait_until
from tests.plans import new_plan

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("back", [False, True], ids=["migrate", "reverse"])
def test_a_fleet_of_plain_sql_is_adopted_and_moved(
    shard_pair: ShardPair, control_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    east, west = shard_pair.source, shard_pair.target
    second_fleet.build(east)
    file = second_fleet.describe(tmp_path, east, west)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.chdir(tmp_path)
    dry = CliRunner().invoke(app, ["adopt", str(file)])
    assert dry.exit_code == 0, dry.output
    written = CliRunner().invoke(app, ["adopt", str(file), "--write"])
    assert written.exit_code == 0, written.output

    control = ControlDatabase(control_dsn)
    store = MigrationStore(control)
    settings = Settings(control=ControlSettings(dsn=control_dsn), migration=QUICK, state_dir=tmp_path)
    migration = store.open(new_plan(control, "east", "west", second_fleet.MOVING))
    with second_fleet.customers(control) as orders, Runner(control, settings, migration, "test") as runner:

        def more(count: int) -> None:
            wanted = orders.total + count
            wait_until(lambda: orders.total >= wanted or bool(orders.failures), f"{count} orders")

        more(50)
        while (step := runner.next_step()) is not None:
            if back and step.stage is Stage.SOAK:
                more(50)
                runner.reverse(ignore)
                break
            allow(runner, step)
            runner.perform(step, ignore)
            more(10)
        more(50)
    moved = east if back else west
    owners = {bucket: moved if bucket in second_fleet.MOVING else east for bucket in second_fleet.BUCKETS}
    second_fleet.assert_nothing_lost(orders, owners)
    assert orders.served_by["west"] > 0
    assert store.get(migration).stage is (Stage.REVERSED if back else Stage.DONE)
    placement = TopologyStore(control).placement()
    assert {bucket: placement.shard_of(bucket) for bucket in second_fleet.BUCKETS} == {
        bucket: "east" if shard is east else "west" for bucket, shard in owners.items()
    }
    control.close()
