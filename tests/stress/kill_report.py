"""The kill matrix as a table and as rows of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.stress.kill_chain import PARTIES, Kill


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


def text(
    rows: Sequence[Mapping[str, Any]],
    failures: Sequence[str],
    writes: Mapping[str, int],
    seconds: float,
) -> list[str]:
    """A line for each step, a column for each party: seconds until the migration went on, ``*`` by another runner."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for each in rows:
        again = f" ({each['again'] + 1}.)" if each["again"] else ""
        step = f"{each['when']} {each['step']}{again}"
        line = cells.setdefault(
            (f"{each['way']}: {each['stage']}", f"{'> ' if each['entering'] else ''}{step}"), {}
        )
        mark = "FAILED" if not each["ok"] else f"{each['seconds']:.2f}{'*' if each['happened'] else ''}"
        if line.get(each["party"]) != "FAILED":
            line[each["party"]] = mark
    width = max([len(step) for _, step in cells], default=0)
    lines = [f"{'':{width}}  " + " ".join(f"{party:>8}" for party in PARTIES)]
    heading = ""
    for (group, step), line in sorted(cells.items(), key=lambda item: _order(rows, item[0][0])):
        if group != heading:
            heading = group
            lines.append(group)
        lines.append(f"{step:{width}}  " + " ".join(f"{line.get(party, ''):>8}" for party in PARTIES))
    lines += [
        "",
        f"{len(rows)} kills at {len(cells)} steps in {seconds:.0f} s; writes: "
        + ", ".join(f"{count} {name}" for name, count in writes.items()),
        *(f"FAILED {failure}" for failure in failures),
        "seconds until the migration went on; * its runner failed and another took over; > while it settled what "
        "the one before had left",
    ]
    return lines


def _order(rows: Sequence[Mapping[str, Any]], group: str) -> int:
    return next(i for i, each in enumerate(rows) if f"{each['way']}: {each['stage']}" == group)
