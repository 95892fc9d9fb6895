"""What the embedded stack costs that has nothing to do: `python -m benchmarks.bench_idle --json FILE`.

Five PostgreSQL servers, Prefect's server and `foreshard serve` with its schedules (collect and janitor each minute,
verify each quarter of an hour), no application. After settling they are left alone.

GROUP.cpu_percent        of one core, over the whole time: processes that came and went are counted
GROUP.mb, GROUP.mb_max   proportional set size (PSS), mean and largest of readings every two seconds
serve.polling.cpu_percent, serve.runs.cpu_percent   the serving process itself, and the runs that it starts
runs                     flow runs that were started meanwhile, by flow
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.bench_backfill import say
from benchmarks.embedded_stack import Quiet, embedded_stack
from benchmarks.report import publish
from deployments.stack import Stack
from foreshard.fleet.embedded import SERVERS

EVERY_S = 2.0
MB = 1024 * 1024


@dataclass
class Group:
    """Processes that belong together, by their oldest ancestors."""

    roots: Sequence[psutil.Process]
    begun_s: float = 0.0
    sizes: list[float] = field(default_factory=list)

    def alive(self) -> list[psutil.Process]:
        """Roots and all below them."""
        found = []
        for root in self.roots:
            found += [root, *root.children(recursive=True)]
        return found

    def cpu_s(self) -> float:
        """Seconds of processor time so far; of ended processes too, when their parent has taken notice."""
        total = 0.0
        for process in self.alive():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def weigh(self) -> None:
        """Take a reading of their size, in MB."""
        total = 0
        for process in self.alive():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        self.sizes.append(total / MB)


def main() -> None:
    """Run it once and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--minutes", type=float, default=5.0, help="how long it is watched (default 5)")
    options.add_argument("--settle", type=float, default=90.0, help="seconds before that (default 90)")
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    with embedded_stack() as demo:
        say(f"settling for {chosen.settle:g} s")
        time.sleep(chosen.settle)
        figures = watched(demo, chosen.minutes * 60)
    publish("bench_idle", figures, chosen.json)


def watched(demo: Quiet, seconds: float) -> dict[str, object]:
    """All groups' figures over that time."""
    groups = groups_of(demo.stack)
    (serve,) = groups["serve"].roots
    own = sum(serve.cpu_times()[:2])
    for group in groups.values():
        group.begun_s = group.cpu_s()
    begun, since = time.monotonic(), datetime.now(UTC)
    while time.monotonic() - begun < seconds:
        time.sleep(EVERY_S)
        for group in groups.values():
            group.weigh()
    passed = time.monotonic() - begun
    spent = {name: group.cpu_s() - group.begun_s for name, group in groups.items()}
    polling = sum(serve.cpu_times()[:2]) - own
    figures: dict[str, object] = {"seconds": round(passed, 1)}
    for name, group in groups.items():
        figures[f"{name}.cpu_percent"] = round(100 * spent[name] / passed, 2)
        figures[f"{name}.mb"] = round(sum(group.sizes) / len(group.sizes))
        figures[f"{name}.mb_max"] = round(max(group.sizes))
    runs = runs_since(since)
    return {
        **figures,
        "serve.polling.cpu_percent": round(100 * polling / passed, 2),
        "serve.runs.cpu_percent": round(100 * (spent["serve"] - polling) / passed, 2),
        "serve.runs.cpu_s_each": round((spent["serve"] - polling) / max(1, sum(runs.values())), 2),
        "all.cpu_percent": round(100 * sum(spent.values()) / passed, 2),
        "all.mb": round(sum(sum(group.sizes) / len(group.sizes) for group in groups.values())),
        "runs": dict(runs),
    }


def groups_of(stack: Stack) -> Mapping[str, Group]:
    """By what a person would call them."""
    return {
        "postgresql": Group([_postmaster(stack, name) for name in SERVERS]),
        "prefect_server": Group([_child(stack, "prefect-server")]),
        "serve": Group([_child(stack, "serve")]),
    }


def runs_since(since: datetime) -> Counter[str]:
    """Flow runs that began since then, by flow."""
    # Prefect reads its address when it is imported, which the stack has set.
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
    from prefect.types import DateTime

    started = FlowRunFilter(
        start_time=FlowRunFilterStartTime(after_=DateTime.fromtimestamp(since.timestamp(), UTC))
    )
    with get_client(sync_client=True) as client:
        return Counter(
            client.read_flow(run.flow_id).name
            for run in client.read_flow_runs(flow_run_filter=started, limit=200)
            if run.start_time is not None  # of one that is due the server takes the time at which it is
        )


def _postmaster(stack: Stack, name: str) -> psutil.Process:
    found = stack.fleet.server(name).postmaster()
    assert found is not None
    return found


def _child(stack: Stack, name: str) -> psutil.Process:
    found = {"prefect-server": stack.server, "serve": stack.serving}[name].process()
    assert found is not None
    return found


if __name__ == "__main__":
    main()
