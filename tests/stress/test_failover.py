"""The broken control "async close with failover": without the safeguards the history checker finds what is lost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from foreshard.fleet.ledger import Ledger
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.guard import Side
from tests.integration.failover_fleet import failover_fleet
from tests.stress.failover import forget_the_close


@pytest.mark.parametrize("side", list(Side))
def test_a_close_that_the_promoted_standby_lacks_loses_writes(
    servers: ThrowawayServers, tmp_path: Path, side: Side
) -> None:
    with (
        failover_fleet(servers, [side], tmp_path) as fleet,
        closing(Ledger(tmp_path / "ledger.sqlite")) as ledger,
    ):
        fleet.run_until(Stage.VERIFY)
        outcome = forget_the_close(fleet, side, ledger)
        assert outcome.flip_refused is None
        assert set(outcome.stale_writes) == {None}, "the promoted side lets every write through"
        assert outcome.check.summary()["lost"] == len(outcome.stale_writes), outcome.check
