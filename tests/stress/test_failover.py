"""A close that the promoted standby lacks: without safeguards the checker finds the loss, each of them prevents it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from foreshard.fleet.ledger import Ledger
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.guard import Side
from tests.integration.failover_fleet import failover_fleet
from tests.stress.failover import ForgottenClose, Safeguard, forget_the_close, without

SIDES = pytest.mark.parametrize("side", list(Side))


@contextmanager
def scenario(
    servers: ThrowawayServers, directory: Path, side: Side, broken: Collection[Safeguard]
) -> Iterator[ForgottenClose]:
    """The scenario on a fresh fleet that lacks the ``broken`` safeguards."""
    with (
        failover_fleet(servers, [side], directory) as fleet,
        closing(Ledger(directory / "ledger.sqlite")) as ledger,
    ):
        fleet.run_until(Stage.VERIFY)
        with without(fleet, broken):
            yield forget_the_close(fleet, side, ledger)


@SIDES
def test_without_safeguards_the_checker_finds_what_is_lost(
    servers: ThrowawayServers, tmp_path: Path, side: Side
) -> None:
    with scenario(servers, tmp_path, side, list(Safeguard)) as outcome:
        assert outcome.flip_refused is None
        assert set(outcome.stale_writes) == {None}, "the promoted side lets every write through"
        assert outcome.check.summary()["lost"] == len(outcome.stale_writes), outcome.check


@SIDES
def test_the_timeline_alone_is_enough(servers: ThrowawayServers, tmp_path: Path, side: Side) -> None:
    with scenario(servers, tmp_path, side, [Safeguard.STANDBYS_FIRST]) as outcome:
        assert outcome.flip_refused is None
        assert set(outcome.stale_writes) == {"FS005"}
        assert outcome.check.passed, outcome.check


@SIDES
def test_waiting_for_standbys_alone_is_enough(servers: ThrowawayServers, tmp_path: Path, side: Side) -> None:
    with scenario(servers, tmp_path, side, [Safeguard.TIMELINE]) as outcome:
        assert f"{side}-standby is behind" in str(outcome.flip_refused)
        assert set(outcome.stale_writes) == {None}, "the promoted side still owns the keys"
        assert outcome.check.passed, outcome.check
