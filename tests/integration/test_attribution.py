"""Attribution of a real server's CPU, held against the CPU time of each bucket's own backends."""

from __future__ import annotations

import pytest

from foreshard.fleet.throwaway import ShardDatabase
from tests.integration.mixed_load import measure

WINDOWS = 30
WINDOW_S = 1.0
SEED = 3


@pytest.mark.slow
def test_shares_of_a_known_mix_are_recovered_within_a_tenth(shard: ShardDatabase) -> None:
    cpu = next(found for found in measure(shard, WINDOWS, WINDOW_S, SEED) if found.metric == "cpu_cores")
    fit = cpu.found.fits["source"]
    assert fit.windows == WINDOWS
    for bucket, true in cpu.truth.items():
        assert cpu.shares[bucket] == pytest.approx(true, abs=0.1), cpu.figures()
        if true >= 0.2:
            assert cpu.shares[bucket] == pytest.approx(true, rel=0.1), cpu.figures()
