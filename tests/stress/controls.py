"""Part "controls": the same writers and the same checker with one safeguard taken away. Each must be caught.

And one with nothing taken away, under what only helps the others to be caught: there the checker must find nothing.
Another control is any object with ``name``, ``takes_away``, ``harmless`` and ``run``, listed in `CONTROLS`; see
`Control`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from foreshard.topology.keys import SLOTS
from tests.stress import broken_fence, reading
from tests.stress.checker import Wrong, check
from tests.stress.flipper import Flip, Flipper, real_flip
from tests.stress.kept_connections import kept_connections
from tests.stress.part import Context, PartResult
from tests.stress.stress_fleet import StressFleet, drain, stress_fleet
from tests.stress.writer_process import wait_for_writes, writing
from tests.stress.writers import Load

SECONDS = 240.0
"""A control is given up after so long; then the checker is blind and the part has failed. Time and not flips: what is
contradicted comes by chance, a few in a hundred flips of the hardest to catch."""

HARMLESS_FLIPS = 20
"""So many where nothing is broken, and nothing may be found."""

CAUGHT_AFTER = 3
"""Contradictions seen while it runs, after which it need not run on."""


@dataclass(frozen=True)
class Trial:
    """What the checker said of a broken fence. ``lost`` and the others count writes, ``stale`` reads.

    ``sides_equal``: whether the two servers had the same rows when all was applied: then only the history knows.
    """

    caught: bool
    flips: int
    seconds: float
    acknowledged: int
    lost: int
    doubled: int
    phantom: int
    stale: int
    torn: int
    sides_equal: bool | None


class Control(Protocol):
    """One safeguard taken away."""

    @property
    def name(self) -> str: ...

    @property
    def takes_away(self) -> str: ...

    @property
    def harmless(self) -> bool: ...

    def run(self, context: Context) -> Trial: ...


@dataclass(frozen=True)
class BrokenFence:
    """A control under random flips. ``breaks`` changes the shards' functions, ``flip`` stands in for the real one.

    ``harmless``: nothing is broken, and nothing may be found.
    """

    name: str
    takes_away: str
    breaks: Callable[[StressFleet], None] = lambda _: None
    flip: Flip = real_flip
    harmless: bool = False

    def run(self, context: Context) -> Trial:
        """Flip under writers, many of which sit in their transactions, until enough is contradicted."""
        load = Load(writes_per_s=400.0, hold_s=0.25, holds_every_s=0.5, colliding=False)
        begun = time.monotonic()
        directory = context.directory / self.name
        directory.mkdir()
        with (
            stress_fleet(context.servers, directory) as fleet,
            fleet.runner("stress") as runner,
            kept_connections(runner.work),
        ):
            self.breaks(fleet)
            with writing(fleet, load, context.seed) as writers:
                wait_for_writes(writers)
                # Whole flips: every key changes its owner each time.
                flipper = Flipper(
                    runner, random.Random(context.seed), self.flip, edges=(0, SLOTS - 1), edge_share=1
                )
                since = time.monotonic()

                def enough() -> bool:
                    return (
                        writers.status().contradictions >= CAUGHT_AFTER or time.monotonic() - since > SECONDS
                    )

                flipper.run(
                    HARMLESS_FLIPS if self.harmless else None,
                    lambda line: context.say(f"{self.name}: {line}; {writers.status()}"),
                    enough,
                )
                history = writers.stop()
            drain(runner)
            findings = check(history, reading.owned(fleet.pair, flipper.bound))
            wrongs = {wrong: sum(each.count for each in findings if each.wrong is wrong) for wrong in Wrong}
            return Trial(
                # An error of a client is no proof: only a contradiction between what it was told and what is there.
                caught=any(count for wrong, count in wrongs.items() if wrong is not Wrong.ERROR),
                flips=flipper.done,
                seconds=round(time.monotonic() - begun, 1),
                acknowledged=history.totals()["acknowledged"],
                lost=wrongs[Wrong.LOST],
                doubled=wrongs[Wrong.DOUBLED],
                phantom=wrongs[Wrong.PHANTOM],
                stale=wrongs[Wrong.STALE],
                torn=wrongs[Wrong.TORN],
                sides_equal=not reading.differences(fleet.pair),
            )


CONTROLS: tuple[Control, ...] = (
    BrokenFence("no_lock", "the guard does not wait for a flip that is closing", broken_fence.without_lock),
    BrokenFence(
        "bound_in_table",
        "the bound is a row, not a sequence",
        broken_fence.bound_in_a_table,
        broken_fence.flip_on_a_slow_line,
    ),
    BrokenFence("slow_line", "nothing", flip=broken_fence.flip_on_a_slow_line, harmless=True),
    BrokenFence("no_marker", "the open does not wait for the marker", flip=broken_fence.open_without_marker),
)


class Controls:
    """See `part.Part`."""

    name = "controls"
    what = "the checker sees what a fence loses that lacks one safeguard"

    def __init__(self, controls: tuple[Control, ...] = CONTROLS) -> None:
        self._controls = controls

    def run(self, context: Context) -> PartResult:
        """Every control on a fleet of its own."""
        figures, problems, notes = {}, [], []
        for control in self._controls:
            context.say(f"{control.name}: {control.takes_away}")
            trial = control.run(context)
            figures[control.name] = {"takes_away": control.takes_away, **asdict(trial)}
            if control.harmless:
                if trial.caught:
                    problems.append(f"{control.name}: something was found though no safeguard was taken away")
            elif not trial.caught:
                problems.append(f"{control.name} was not caught in {trial.flips} flips, {trial.seconds} s")
            elif trial.sides_equal:
                notes.append(
                    f"{control.name}: source and target were equal; no comparison of the two could see it"
                )
        return PartResult(not problems, figures, [*problems, *notes])
