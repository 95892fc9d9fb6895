"""kill -9 at every recorded step of every stage, of runner, source, target and control database.

    python -m tests.stress.kill_matrix [--quick] [--parties runner,source] [--ways 'forward,abort@*']
                                       [--steps 'cutover*'] [--no-turn] [--json FILE]

A recording without kills says which steps a way has; then migrations are driven along it in which the party dies at
each of them, one after another. What a chain of kills cannot reach (finishing a flip that was interrupted skips
what an uninterrupted one does) the next chain reaches. Steps that come only after a kill are killed at too.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.migration.lifecycle import Stage
from tests.stress import kill_report
from tests.stress.kill_chain import PARTIES, RUNNER, Chain, ChainRunner, nowhere
from tests.stress.kill_fleet import KillFleet
from tests.stress.kill_ways import Way, turns, uncovered, ways
from tests.stress.recorded_steps import Point

ROUNDS = 12
"""More chains than the longest flip has steps: a point that is not reached then is reported."""


@dataclass(frozen=True)
class Selection:
    """What to run. ``ways``, ``steps``: patterns (a step reads as `Point` prints); ``turn``: see `_turn`."""

    parties: tuple[str, ...] = PARTIES
    ways: tuple[str, ...] = ("*",)
    steps: tuple[str, ...] = ("*",)
    turn: bool = True

    def way(self, way: Way) -> bool:
        """Whether the way is selected."""
        return any(fnmatch(way.name, pattern) for pattern in self.ways)

    def point(self, point: Point) -> bool:
        """Whether kills at the point are wanted."""
        return any(fnmatch(str(point), pattern) for pattern in self.steps)


QUICK = Selection(ways=("forward",), steps=(f"{Stage.WRITE_REDIRECT}*", f"{Stage.CUTOVER}*"), turn=False)
"""What CI runs."""


@dataclass
class Matrix:
    """The kills of all ways, and what went wrong."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    writes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every step was killed at, and nothing was lost by it."""
        return bool(self.rows) and not self.failures

    def add(self, way: Way, chain: Chain) -> None:
        """Take a chain's kills over; if it failed, with everything that had been killed in it."""
        for kill in chain.kills:
            failed = chain.failure is not None and kill is chain.kills[-1]
            self.rows.append(kill_report.row(way.name, kill, ok=not failed))
        if chain.failure is not None:
            killed = "\n    ".join(f"{kill.party} {kill.point}" for kill in chain.kills)
            self.failures.append(f"{way.name}: {chain.failure}\n  killed so far:\n    {killed or 'nobody'}")
        if chain.result is not None:
            for name, count in chain.result.summary().items():
                self.writes[name] = self.writes.get(name, 0) + count
            shards_lived = all(kill.party in (RUNNER, "control") for kill in chain.kills)
            if chain.result.unknown and shards_lived:
                self.failures.append(
                    f"{way.name}: {chain.result.unknown} unknown outcomes though no shard died"
                )


def run(servers: ThrowawayServers, selection: Selection, say: Callable[[str], None]) -> Matrix:
    """The selected part of the matrix on ``servers``."""
    matrix, begun = Matrix(), time.monotonic()
    for name in ("psycopg", "foreshard"):  # servers die here all the time
        logging.getLogger(name).setLevel(logging.CRITICAL)
    recorded: list[Point] = []
    for way in filter(selection.way, ways()):
        recording = _chain(servers, way, None)
        matrix.add(way, recording)
        say(f"{way.name}: {len(set(recording.reached))} steps recorded in {recording.seconds} s")
        if recording.failure is not None:
            continue
        recorded += recording.reached
        for party in selection.parties:
            _kill_all(
                servers, way, party, set(filter(selection.point, recording.reached)), selection, matrix, say
            )
        if selection.turn and way.name == "forward":
            _turn(servers, list(dict.fromkeys(recording.reached)), selection, matrix, say)
    if selection.ways == ("*",) and (missing := uncovered(recorded)):
        matrix.failures.append(f"no step of {', '.join(sorted(missing))} is in the matrix")
    matrix.rows = sorted(matrix.rows, key=kill_report.by_step(matrix.rows, recorded))
    matrix.seconds = round(time.monotonic() - begun, 1)
    return matrix


def _kill_all(
    servers: ThrowawayServers,
    way: Way,
    party: str,
    recorded: set[Point],
    selection: Selection,
    matrix: Matrix,
    say: Callable[[str], None],
) -> None:
    """Chains until the party has died at every recorded point; the first takes every new point on its way along."""
    left = set(recorded)
    for number in range(ROUNDS):
        wanted = left.__contains__ if number else selection.point
        chain = _chain(servers, way, party, wanted)
        matrix.add(way, chain)
        left -= {kill.point for kill in chain.kills}
        say(
            f"{way.name} {party}: {len(chain.kills)} kills, {len(left)} left, {chain.seconds} s {chain.failure or ''}"
        )
        if not left or chain.failure is not None or not chain.kills:
            break
    if left:
        missed = "; ".join(map(str, sorted(left)[:5]))
        matrix.failures.append(f"{way.name} {party}: {len(left)} steps were not killed at: {missed}")


def _turn(
    servers: ThrowawayServers,
    recorded: list[Point],
    selection: Selection,
    matrix: Matrix,
    say: Callable[[str], None],
) -> None:
    """At each step of a flip the party dies, and the runner; the next runner turns back instead of going on."""
    for way, point in filter(lambda turn: selection.point(turn[1]), turns(recorded)):
        for party in selection.parties:
            chain = _chain(servers, way, party)
            matrix.add(way, chain)
            say(f"{way.name} {party} at {point}: {chain.seconds} s {chain.failure or ''}")


def _chain(
    servers: ThrowawayServers,
    way: Way,
    party: str | None,
    wanted: Callable[[Point], bool] = nowhere,
) -> Chain:
    with KillFleet(servers) as fleet:
        return ChainRunner(fleet, party, wanted).run(way.legs)


def main(arguments: Iterable[str]) -> int:
    """Run what was asked for, print the matrix; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.kill_matrix")
    parser.add_argument("--quick", action="store_true", help="flip and cutover, forward: what CI runs")
    parser.add_argument("--parties", type=_words, default=PARTIES)
    parser.add_argument("--ways", type=_words, help="patterns, e.g. forward,abort@*")
    parser.add_argument(
        "--steps", type=_words, help="patterns of what to kill at, e.g. 'cutover*,*record opened*'"
    )
    parser.add_argument("--no-turn", action="store_true", help="do not turn back at each step of a flip")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(list(arguments))
    basis = QUICK if given.quick else Selection()
    selection = Selection(
        given.parties,
        given.ways or basis.ways,
        given.steps or basis.steps,
        basis.turn and not given.no_turn,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have started us with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with ThrowawayServers() as servers:
        matrix = run(servers, selection, lambda line: print(line, file=sys.stderr, flush=True))
    print("\n".join(kill_report.text(matrix.rows, matrix.failures, matrix.writes, matrix.seconds)))
    if given.json is not None:
        document = {
            "passed": matrix.passed,
            "seconds": matrix.seconds,
            "writes": matrix.writes,
            "failures": matrix.failures,
            "kills": matrix.rows,
        }
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if matrix.passed else 1


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
