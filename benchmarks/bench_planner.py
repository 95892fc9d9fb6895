"""How long a decision takes, what memory, and how many bytes it moves more than the fewest.

    python -m benchmarks.bench_planner --json planner.json
    python -m benchmarks.bench_planner --sizes 10x1000,100x10000 --rounds 3 --seeds 5

Made-up fleets of three resources and 48 steps, a tenth of the shards at risk. Figures are <shards>x<buckets>.<figure>;
benchmarks/README.md says what they mean. Three minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.planner_run import Decided, decider, one_more
from benchmarks.planner_yardstick import Compared, compared
from benchmarks.report import publish

SIZES = "10x1000,100x10000,1000x100000"
WITH_ROOM = 10
"""Shards up to which the integer program keeps to the targets' room; beyond, it gives a bound."""

FEW = 100
"""Shards beyond which a third of the fleets is compared: a minute each."""

Size = tuple[int, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write all figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--sizes", default=SIZES, metavar="SHARDSxBUCKETS,...", help="default: %(default)s")
    options.add_argument("--rounds", type=int, default=7, help="decisions of each size, in turns; default: 7")
    options.add_argument(
        "--seeds",
        type=int,
        default=10,
        help="fleets of each size that are compared with the fewest bytes, of the largest a third; default: 10",
    )
    chosen = options.parse_args(arguments)
    try:
        sizes = [_size(each) for each in chosen.sizes.split(",")]
    except ValueError:
        options.error(f"--sizes {chosen.sizes}: not like {SIZES}")
    if chosen.rounds < 1 or chosen.seeds < 0:
        options.error("--rounds is at least 1, --seeds at least 0")
    rounds = _in_turns(sizes, chosen.rounds)
    figures: dict[str, object] = {}
    for size, decided in rounds.items():
        figures |= _taken(_name(size), decided)
        figures |= _if_full(_name(size), size, chosen.rounds)
        figures |= _moved(_name(size), _comparisons(size, chosen.seeds))
        _tell(f"{_name(size)} done")
    if len(sizes) > 1:
        figures["exponent"] = round(exponent({size: rounds[size] for size in sizes}), 2)
    publish("bench_planner", figures, chosen.json)
    return 0


def exponent(rounds: Mapping[Size, Sequence[Decided]]) -> float:
    """Of time over buckets, between the smallest and the largest size: 1 is linear."""
    first, last = min(rounds, key=lambda size: size[1]), max(rounds, key=lambda size: size[1])
    times = [median(one.seconds for one in rounds[size]) for size in (first, last)]
    return float(np.log(times[1] / times[0]) / np.log(last[1] / first[1]))


def _size(text: str) -> Size:
    shards, buckets = text.split("x")
    if not 2 <= int(shards) <= int(buckets):
        raise ValueError(text)
    return int(shards), int(buckets)


def _name(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _in_turns(sizes: Sequence[Size], rounds: int) -> dict[Size, list[Decided]]:
    """Every size once a round, so that what else the machine does meets all of them; a round before, to warm up."""
    with ExitStack() as stack:
        processes = {size: stack.enter_context(decider(*size, seed=1)) for size in sizes}
        for process in processes.values():
            one_more(process)
        found: dict[Size, list[Decided]] = {size: [] for size in sizes}
        for number in range(rounds):
            for size in sizes:
                found[size].append(one_more(processes[size]))
            _tell(f"round {number + 1} of {rounds}")
        return found


def _taken(name: str, decided: Sequence[Decided]) -> dict[str, object]:
    last = decided[-1]
    return {
        f"{name}.seconds": round(median(one.seconds for one in decided), 3),
        f"{name}.seconds_least": round(min(one.seconds for one in decided), 3),
        f"{name}.cpu_s": round(median(one.cpu_s for one in decided), 3),
        f"{name}.memory_mb": round(last.memory_mb),
        f"{name}.fleet_mb": round(last.fleet_mb),
        f"{name}.risky": last.risky,
        f"{name}.plans": last.plans,
        f"{name}.moved_gb": round(last.bytes / 1e9, 1),
    }


def _if_full(name: str, size: Size, rounds: int) -> dict[str, object]:
    with decider(*size, seed=1, full=True) as process:
        one_more(process)
        decided = [one_more(process) for _ in range(rounds)]
    return {
        f"{name}.full_seconds": round(median(one.seconds for one in decided), 3),
        f"{name}.full_cpu_s": round(median(one.cpu_s for one in decided), 3),
        f"{name}.full_plans": decided[-1].plans,
    }


def _comparisons(size: Size, seeds: int) -> list[Compared | None]:
    with_room = size[0] <= WITH_ROOM
    many = seeds if size[0] <= FEW else -(-seeds // 3)
    return [compared(*size, seed, with_room) for seed in range(1, many + 1)]


def _moved(name: str, comparisons: Sequence[Compared | None]) -> dict[str, object]:
    solved = [one for one in comparisons if one is not None and one.fewest]
    ratios = [one.ratio for one in solved if one.ratio is not None]
    figures: dict[str, object] = {f"{name}.compared": f"{len(solved)} of {len(comparisons)}"}
    if solved:
        ours, fewest = sum(one.ours for one in solved), sum(one.fewest or 0 for one in solved)
        figures |= {
            f"{name}.bytes_over_milp": round(ours / fewest, 4),
            f"{name}.bytes_over_milp_median": round(median(ratios), 4),
            f"{name}.bytes_over_milp_worst": round(max(ratios), 4),
        }
    return figures


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
