"""One migration that carries many kills: at each new point a party dies, comes back, and the migration goes on."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from foreshard.fleet.checker import CheckResult
from foreshard.migration.lifecycle import Stage
from tests.stress.kill_fleet import CheckFailed, KillFleet
from tests.stress.kill_runner import Ended, Errand, Job, drive
from tests.stress.recorded_steps import Point, When

RUNNER = "runner"
PARTIES = (RUNNER, "source", "target", "control")

SILENCE_S = 120.0
"""A runner that reaches no point and does not end for so long hangs."""

FRUITLESS = 30
"""So many runners may fail one after another without reaching a new point."""


def nowhere(point: Point) -> bool:
    """Nobody dies."""
    del point
    return False


_spawn = multiprocessing.get_context("forkserver")
_spawn.set_forkserver_preload(["tests.stress.kill_runner"])


@dataclass
class Kill:
    """One kill and what came of it."""

    party: str
    point: Point
    happened: str = ""
    seconds: float = 0.0


@dataclass
class Chain:
    """What one migration lived through."""

    kills: list[Kill] = field(default_factory=list)
    reached: list[Point] = field(default_factory=list)
    """Every point of the last leg, in order."""

    result: CheckResult | None = None
    runners: int = 0
    seconds: float = 0.0
    failure: str | None = None


@dataclass(frozen=True)
class Leg:
    """A part of a migration's way: the errand, and where it stops to make room for the next leg."""

    errand: Errand
    until: Stage | None = None
    killed_at: Callable[[Point], bool] | None = None
    """The leg ends at the first such point: the runner is killed there, and the chain's party if ``all_die``."""

    all_die: bool = False


class ChainRunner:
    """Drives the migration of ``fleet`` along ``legs``; in the last one ``party`` dies wherever ``wanted`` says."""

    def __init__(
        self, fleet: KillFleet, party: str | None, wanted: Callable[[Point], bool] = nowhere
    ) -> None:
        self._fleet = fleet
        self._party = party
        self._wanted = wanted
        self._chain = Chain()
        self._killed: set[Point] = set()
        self._last_kill: tuple[Kill, float] | None = None

    def run(self, legs: tuple[Leg, ...]) -> Chain:
        """The whole way. Never raises for what the migration did wrong: `Chain.failure` tells."""
        started = time.monotonic()
        try:
            for leg in legs:
                self._chain.reached.clear()
                self._leg(leg, self._party if leg is legs[-1] else None)
            self._chain.result = self._fleet.check_end()
        except CheckFailed as failed:
            self._chain.failure = str(failed)
        except (
            Exception
        ) as error:  # a server that does not start again, and the like: it ends this chain alone
            self._chain.failure = f"{type(error).__name__}: {error}"
        self._chain.seconds = round(time.monotonic() - started, 1)
        return self._chain

    def _leg(self, leg: Leg, party: str | None) -> None:
        fruitless = 0
        while True:
            before = len(self._killed)
            ended = self._one_runner(leg, party)
            if ended is None and leg.killed_at is not None:
                return
            if ended is not None and ended.error is None:
                self._settled("")
                return
            if ended is not None:
                self._settled(ended.error or "")
            fruitless = 0 if len(self._killed) > before else fruitless + 1
            if fruitless > FRUITLESS:
                raise CheckFailed(f"no runner gets on: {ended.error if ended else 'killed'}")
            if ended is not None:
                time.sleep(0.2)

    def _one_runner(self, leg: Leg, party: str | None) -> Ended | None:
        """A runner until it ends, or is killed (None)."""
        moving = self._fleet.moving
        job = Job(
            moving.control.conninfo, self._fleet.directory, moving.migration,
            moving.settings.migration, leg.errand, leg.until,
        )  # fmt: skip
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(target=drive, args=(theirs, job), daemon=True)
        process.start()
        theirs.close()
        self._chain.runners += 1
        try:
            return self._listen(ours, process, leg, party)
        finally:
            process.kill()
            process.join()
            ours.close()

    def _listen(self, link: Connection, process: BaseProcess, leg: Leg, party: str | None) -> Ended | None:
        while True:
            if not link.poll(SILENCE_S):
                raise CheckFailed(f"a runner was silent for {SILENCE_S:g} s after {self._chain.reached[-1:]}")
            try:
                said = link.recv()
            except EOFError:
                return Ended("the runner's process ended without a word")
            if isinstance(said, Ended):
                return said
            self._settled("")
            self._chain.reached.append(said)
            if _both_copies_stand(said):
                self._fleet.compare()
            if leg.killed_at is not None and leg.killed_at(said):
                process.kill()
                process.join()
                if leg.all_die and self._party is not None:
                    self._kill(self._party, said, process, link)
                return None
            if party is None or said in self._killed or not self._wanted(said):
                link.send(None)
                continue
            self._killed.add(said)
            self._kill(party, said, process, link)
            if party == RUNNER:
                return None

    def _kill(self, party: str, point: Point, process: BaseProcess, link: Connection) -> None:
        kill = Kill(party, point)
        self._chain.kills.append(kill)
        begun = time.monotonic()
        if party == RUNNER:
            process.kill()
            process.join()
            self._fleet.probe()
        else:
            server = self._fleet.server(party)
            server.kill9()
            # After a write the runner goes on while the server is away; before one it finds it back, with all its
            # connections cut.
            away = point.when is When.AFTER
            if away:
                _go_on(link)
            server.start()
            self._fleet.probe()
            if not away:
                _go_on(link)
        self._last_kill = (kill, begun)

    def _settled(self, error: str) -> None:
        """The first sign of life after a kill: a point that a runner reached, or how it ended."""
        if self._last_kill is None:
            return
        kill, begun = self._last_kill
        if error:  # the next runner's first point is the end of it
            kill.happened = error.splitlines()[0][:120]
            return
        kill.seconds = round(time.monotonic() - begun, 2)
        self._last_kill = None


def _go_on(link: Connection) -> None:
    with suppress(BrokenPipeError):  # it was killed itself
        link.send(None)


def _both_copies_stand(point: Point) -> bool:
    """Moments at which both streams run and a flip is over."""
    if point.when is When.BEFORE:
        return point.write == f"go_to {Stage.FINALISE}"
    return point.stage in (Stage.ABORTING, Stage.REVERSING) and point.write == "record opened"
