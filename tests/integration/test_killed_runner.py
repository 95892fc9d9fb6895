"""kill -9 of the process that drives a migration; the next one takes over and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foreshard.migration.failpoint import VARIABLE
from foreshard.migration.lifecycle import Stage
from tests.integration.moving_fleet import MovingFleet, assert_whole, wait_until, writers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("failpoint", ["backfill", "flip_closed"])
def test_a_killed_runner_is_followed_by_another(fleet: MovingFleet, failpoint: str) -> None:
    with writers(fleet) as writing:
        killed = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.integration.killed_runner",
                fleet.control.conninfo,
                str(fleet.state_dir),
                str(fleet.migration),
            ],
            cwd=ROOT,
            env={**os.environ, VARIABLE: failpoint},
            timeout=120,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        assert fleet.store.get(fleet.migration).stage in (Stage.BACKFILL, Stage.WRITE_REDIRECT)
        if failpoint == "flip_closed":  # the marker has opened: nobody waits for the next runner
            writing.wait_for_more(20)
        wait_until(lambda: len(fleet.store.abandoned()) == 1, "the dead runner's lease expires")
        fleet.run_until(None)
        writing.wait_for_more(20)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.target), redirected=True)

    assert fleet.store.get(fleet.migration).stage is Stage.DONE
    assert fleet.leftovers() == []
    if failpoint == "flip_closed":  # nobody was there to measure it
        pauses = [flip.pause_ms for flip in fleet.flips.flips(fleet.migration)]
        assert pauses[0] is None, pauses
        assert None not in pauses[1:]
    assert "lost" in {run.outcome for run in fleet.store.stage_runs(fleet.migration)}
