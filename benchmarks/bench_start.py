"""From a forecast to work under way: `python -m benchmarks.bench_start --json FILE`.

The demo's stack and its six weeks of load, no application. A forecast's event starts `decide`, whose plan starts
`migrate`, as on any day; the time is taken until the first stage is journalled as begun. Then the migration is aborted
and forgotten, and the event is sent again.

decide_to_stage_s         from the start of the `decide` run's process to the first stage: the promise, at most 20
event_to_stage_s          the same from the event on
PARTS                     one after another, they add up to event_to_stage_s:
  trigger_s               event -> the `decide` run is there
  decide.poll_s           -> the serving process takes it
  decide.begin_s          -> its flow begins: process, imports, Prefect's engine
  decide.work_s           -> it starts the `migrate` run: policy, decision, plans stored
  migrate.poll_s          -> the serving process takes it
  migrate.begin_s         -> its flow begins
  migrate.lease_s         -> its first stage begins: settings, lease, a look at both shards
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from benchmarks.bench_backfill import say
from benchmarks.embedded_stack import embedded_stack
from benchmarks.report import publish


def main() -> None:
    """Run it and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rounds", type=int, default=9, help="(default 9)")
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    rounds = []
    with embedded_stack() as demo:
        # Prefect reads its address when it is imported, which the stack has just set.
        from benchmarks.start_rounds import one_round

        demo.forecast()
        for number in range(chosen.rounds + 1):
            found = one_round(demo, number)
            say(", ".join(f"{name} {value:.1f}" for name, value in found.items()))
            if (
                number
            ):  # the first one reads everything for the first time, and the forecast's own event is in it
                rounds.append(found)
    figures: dict[str, object] = {"rounds": len(rounds)}
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        figures[f"{name}.median"] = round(statistics.median(values), 2)
        figures[f"{name}.worst"] = round(max(values), 2)
    publish("bench_start", figures, chosen.json)


if __name__ == "__main__":
    main()
