"""Attribution of a real server's CPU, held against the CPU time of each bucket's own backends."""

from __future__ import annotations

import pytest

from foreshard.fleet.throwaway import ShardDatabase
from tests.integration.mixed_load import measure

WINDOWS = 30
WINDOW_S = 1.0


@pytest.mark.slow
def test_shares_of_a_known_mix_are_recovered_within_a_tenth(shard: ShardDatabase) -> None:
    """Of the load: each bucket's share, and all that is given to a wrong bucket, or wrongly to the shard, together."""
    cpu = next(found for found in measure(shard, WINDOWS, WINDOW_S) if found.metric == "cpu_cores")
    assert cpu.found.fits["source"].windows == WINDOWS
    missed = [cpu.shares[bucket] - true for bucket, true in cpu.truth.items()]
    assert max(map(abs, missed)) <= 0.1, cpu.figures()
    assert (sum(map(abs, missed)) + abs(sum(missed))) / 2 <= 0.1, cpu.figures()
