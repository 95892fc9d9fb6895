"""Part "failover": a close that the promoted standby lacks. Two safeguards, each enough alone; without both, a loss."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Any

from foreshard.fleet.ledger import Ledger
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.guard import Side
from tests.integration.failover_fleet import failover_fleet
from tests.stress.failover import ForgottenClose, Safeguard, forget_the_close, without
from tests.stress.part import Context, PartResult

BROKEN: tuple[Collection[Safeguard], ...] = ((), *((one,) for one in Safeguard), tuple(Safeguard))
"""What is taken away: nothing, each safeguard, both. Only the last may lose writes, and the checker must see it."""


class Failover:
    """See `part.Part`."""

    name = "failover"
    what = "no write is lost when a standby that lacks a close is promoted; without safeguards the checker sees it"

    def run(self, context: Context) -> PartResult:
        """Every combination for the source and for the target, each on a fleet of its own."""
        figures: dict[str, Any] = {}
        problems = []
        for side in Side:
            for broken in BROKEN:
                name = f"{side} without {' and '.join(one.name.lower() for one in broken) or 'nothing'}"
                context.say(name)
                outcome = _run(context, side, broken, len(figures))
                figures[name] = {
                    "flip_refused": outcome.flip_refused is not None,
                    "stale_writes": ", ".join(
                        sorted({state or "let through" for state in outcome.stale_writes})
                    ),
                    **outcome.check.summary(),
                }
                if outcome.check.passed == (len(broken) == len(Safeguard)):
                    problems.append(f"{name}: {outcome.check.summary()}")
        return PartResult(not problems, figures, problems)


def _run(context: Context, side: Side, broken: Collection[Safeguard], number: int) -> ForgottenClose:
    directory = context.directory / str(number)
    directory.mkdir()
    with (
        failover_fleet(context.servers, [side], directory, slot=True) as fleet,
        closing(Ledger(directory / "ledger.sqlite")) as ledger,
    ):
        fleet.run_until(Stage.VERIFY)
        with without(fleet, broken):
            return forget_the_close(fleet, side, ledger)
