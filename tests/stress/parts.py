"""The parts of the stress run, in the order in which they are run."""

from __future__ import annotations

from tests.stress.controls import Controls
from tests.stress.failover_part import Failover
from tests.stress.flips import Flips
from tests.stress.kill_part import Kills
from tests.stress.part import Part

PARTS: tuple[Part, ...] = (Flips(), Controls(), Failover(), Kills())
