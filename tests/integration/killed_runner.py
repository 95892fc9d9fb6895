"""A process that drives a migration until it is killed: run by test_killed_runner.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from foreshard.control.engine import ControlDatabase
from foreshard.migration.runner import Runner
from foreshard.settings import ControlSettings, MigrationSettings, Settings
from tests.integration.moving_fleet import QUICK, allow, ignore


def main(control_dsn: str, state_dir: str, migration: str, changed: str = "{}") -> None:
    """Perform every step of the migration, with some settings ``changed`` (JSON)."""
    control = ControlDatabase(control_dsn)
    quick = MigrationSettings.model_validate({**QUICK.model_dump(), **json.loads(changed)})
    settings = Settings(control=ControlSettings(dsn=control_dsn), migration=quick, state_dir=Path(state_dir))
    with Runner(control, settings, int(migration), "victim") as runner:
        while (step := runner.next_step()) is not None:
            allow(runner, step)
            runner.perform(step, ignore)


if __name__ == "__main__":
    main(*sys.argv[1:])
