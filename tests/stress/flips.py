"""Part "flips": random writers while ownership goes back and forth at random; then everything is compared."""

from __future__ import annotations

import random
from typing import Any

from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import ignore
from tests.stress import reading
from tests.stress.checker import Finding, Wrong, check
from tests.stress.flipper import Flipper
from tests.stress.history import History
from tests.stress.kept_connections import kept_connections
from tests.stress.part import Context, PartResult
from tests.stress.stress_fleet import StressFleet, drain, stress_fleet
from tests.stress.writer_process import wait_for_writes, writing
from tests.stress.writers import Load

LOAD = Load()


class Flips:
    """See `part.Part`."""

    name = "flips"
    what = "no acknowledged write is lost or doubled while ownership goes back and forth at random"

    def __init__(self, load: Load = LOAD) -> None:
        self._load = load

    def run(self, context: Context) -> PartResult:
        """``context.flips`` flips under writers, a comparison; then the migration's end, and another comparison."""
        draw = random.Random(context.seed)
        context.say("a fleet is made")
        with stress_fleet(context.servers, context.directory) as fleet:
            with (
                fleet.runner("stress") as runner,
                kept_connections(runner.work),
                writing(fleet, self._load, context.seed) as writers,
            ):
                wait_for_writes(writers)
                flipper = Flipper(runner, draw)
                flipper.run(context.flips, lambda line: context.say(f"{line}; {writers.status()}"))
                history = writers.stop()
                context.say("writers have stopped; comparing")
                drain(runner)
                unequal = reading.differences(fleet.pair)
                findings = check(history, reading.owned(fleet.pair, flipper.bound))
            ending = draw.choice((Stage.ABORTED, Stage.DONE))
            context.say(f"the migration is brought to its end: {ending}")
            leftovers = _end(fleet, ending)
            bound = SLOTS if ending is Stage.DONE else 0
            findings_after = check(history, reading.owned(fleet.pair, bound))
        new = [finding for finding in findings_after if finding not in findings]
        figures = _figures(flipper, history, [*findings, *new])
        figures |= {"sides_equal": not unequal, "leftovers": leftovers, "ended": ending.value}
        problems = [
            *(f"the sides differ: {text}" for text in unequal),
            *(f"left over: {text}" for text in leftovers),
            *map(str, findings),
            *(f"{count} writes found no owner in time" for count in [figures["turned_away"]] if count),
            *(f"after the end: {finding}" for finding in new),
        ]
        return PartResult(not problems and figures["acknowledged"] > 0, figures, problems)


def _end(fleet: StressFleet, ending: Stage) -> list[str]:
    """Abort, or go through the cutover to the end; returns what is left over on either shard."""
    with fleet.runner("stress") as runner:
        if ending is Stage.ABORTED:
            runner.abort(ignore)
        else:
            flip(runner.work, 0)  # the canary steps begin from there
            fleet.run_until(None, runner)
    loser = fleet.pair.target if ending is Stage.ABORTED else fleet.pair.source
    copies = [f"{loser.name}: schema {name}" for name in reading.schemas(loser)]
    return [*fleet.leftovers(), *copies]


def _figures(flipper: Flipper, history: History, findings: list[Finding]) -> dict[str, Any]:
    totals = history.totals()
    wrongs = {wrong.value: sum(each.count for each in findings if each.wrong is wrong) for wrong in Wrong}
    return {
        **flipper.figures(),
        "seconds": round(flipper.seconds, 1),
        "acknowledged": totals["acknowledged"],
        "writes_per_s": round(totals["acknowledged"] / flipper.seconds, 1) if flipper.seconds else 0.0,
        "refused": totals["refused"],
        "turned_away": totals["refused"] - totals["retry FS002"],  # apart from those that span two owners
        "unknown": totals["unknown"],
        "retries": {what: count for what, count in sorted(totals.items()) if what.startswith("retry ")},
        "reads": history.reads,
        **wrongs,
        "shapes": history.by_shape(),
    }
