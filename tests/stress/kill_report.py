"""The kill matrix as a table and as rows of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foreshard.migration.lifecycle import Stage
from tests.stress.kill_chain import PARTIES, Kill
from tests.stress.recorded_steps import Point


def row(way: str, kill: Kill, *, ok: bool) -> dict[str, Any]:
    """One kill. ``seconds``: until the migration made its next step, or its runner had failed and another did."""
    return {
        "way": way,
        "stage": kill.point.stage,
        "entering": kill.point.entering,
        "step": kill.point.write,
        "when": str(kill.point.when),
        "again": kill.point.again,
        "party": kill.party,
        "ok": ok,
        "happened": kill.happened,
        "seconds": kill.seconds,
    }


def by_step(
    rows: Sequence[Mapping[str, Any]], recorded: Sequence[Point]
) -> Callable[[Mapping[str, Any]], tuple[int, int, int]]:
    """A sort key: ways, stages, then steps as the recordings have them; those that only kills bring come last."""
    places = {
        (point.stage, point.entering, point.write, point.when, point.again): place
        for place, point in reversed(list(enumerate(recorded)))
    }
    stages, ways = list(Stage), list(dict.fromkeys(each["way"] for each in rows))

    def key(each: Mapping[str, Any]) -> tuple[int, int, int]:
        step = (each["stage"], each["entering"], each["step"], each["when"], each["again"])
        return ways.index(each["way"]), stages.index(each["stage"]), places.get(step, len(recorded))

    return key


def text(
    rows: Sequence[Mapping[str, Any]],
    failures: Sequence[str],
    writes: Mapping[str, int],
    seconds: float,
) -> list[str]:
    """The table, and what came of it all."""
    counts = ", ".join(f"{count} {name}" for name, count in writes.items())
    return [
        *table(rows),
        "seconds until the migration went on; * its runner failed and another took over; > while a runner settled "
        "what the one before it had left",
        "",
        f"{len(rows)} kills in {seconds:.0f} s; writes: {counts}",
        *(f"FAILED {failure}" for failure in failures),
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each step, a column for each party: seconds, or FAILED. Steps in the order of the first kill."""
    groups: dict[str, dict[str, dict[str, str]]] = {}
    for each in rows:
        again = f" ({each['again'] + 1}.)" if each["again"] else ""
        step = f"{'> ' if each['entering'] else ''}{each['when']} {each['step']}{again}"
        line = groups.setdefault(f"{each['way']}: {each['stage']}", {}).setdefault(step, {})
        mark = f"{each['seconds']:.2f}{'*' if each['happened'] else ''}" if each["ok"] else "FAILED"
        if line.get(each["party"]) != "FAILED":
            line[each["party"]] = mark
    width = max((len(step) for steps in groups.values() for step in steps), default=0)
    lines = [f"{'':{width}}  " + " ".join(f"{party:>8}" for party in PARTIES)]
    for group, steps in groups.items():
        lines.append(group)
        lines += [
            f"{step:{width}}  " + " ".join(f"{line.get(party, ''):>8}" for party in PARTIES)
            for step, line in steps.items()
        ]
    return lines
