"""What load costs: `python -m benchmarks.bench_load --json FILE`, about 15 minutes; --quick for a look.

sampling      a sample's cost on a shard, and the time of a whole fleet's collection
storing       ingest, rolling up, disk and readings of the store, at three sizes of fleet
logs          reading a query log of 1 GB: rate and memory
rebuilding    what the forecast learns from: every shard's metrics apportioned and rebuilt, of 10,000 buckets
attribution   CPU and I/O by bucket against what each bucket's backends used

Figures are named `<part>.<figure>`; the parts' own files say what they mean.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import load_logs, load_rebuilding, load_sampling, load_storing
from benchmarks.load_attribution import attribution_figures
from benchmarks.report import publish

PARTS: Mapping[str, Callable[[], Mapping[str, object]]] = {
    "sampling": load_sampling.sampling,
    "storing": load_storing.storing,
    "logs": load_logs.measure,
    "rebuilding": load_rebuilding.rebuilding,
    "attribution": attribution_figures,
}
QUICK: Mapping[str, Callable[[], Mapping[str, object]]] = {
    "sampling": partial(load_sampling.sampling, rounds=5, shards=20),
    "storing": partial(load_storing.storing, quick=True),
    "logs": partial(load_logs.measure, 50),
    "rebuilding": partial(load_rebuilding.rebuilding, quick=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure part by part, and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument(
        "--quick", action="store_true", help="small sizes, without attribution: a minute or two"
    )
    options.add_argument(
        "--only", metavar="PARTS", default=",".join(PARTS), help="some of them, with commas between"
    )
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args(arguments)
    wanted = chosen.only.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        options.error(f"there is no part {', '.join(unknown)}; parts are {', '.join(PARTS)}")
    figures: dict[str, object] = {}
    for name, measure in (QUICK if chosen.quick else PARTS).items():
        if name in wanted:
            print(f"{name} ...", file=sys.stderr)
            figures |= {f"{name}.{figure}": value for figure, value in measure().items()}
    publish("bench_load", figures, chosen.json)


if __name__ == "__main__":
    main()
