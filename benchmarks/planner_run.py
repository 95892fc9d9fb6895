"""A process that decides on one made-up fleet: `python -m benchmarks.planner_run SHARDS BUCKETS SEED [full]`.

Each line of its input is one decision, each line of its output what that took. So a process's peak of memory is that of
one size, and decisions of several sizes can be taken in turns.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.planner_fleets import made_up
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy


@dataclass(frozen=True)
class Decided:
    """``memory_mb``: the most that the process had so far, ``fleet_mb``: before the first decision. ``risky``: shards
    with a score above the threshold.
    """

    seconds: float
    cpu_s: float
    memory_mb: float
    fleet_mb: float
    risky: int
    plans: int
    bytes: int


@contextmanager
def decider(shards: int, buckets: int, seed: int, full: bool = False) -> Iterator[subprocess.Popen[str]]:
    """The process, with its fleet made up; ``full``: a nearly full one."""
    command = [sys.executable, "-m", "benchmarks.planner_run", str(shards), str(buckets), str(seed)]
    command += ["full"] if full else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.stdin is not None:
                with suppress(BrokenPipeError):  # it has ended
                    process.stdin.close()


def one_more(process: subprocess.Popen[str]) -> Decided:
    """Let it decide. Raises ``RuntimeError`` if it has ended."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    try:
        print("decide", file=process.stdin, flush=True)
        return Decided(**json.loads(process.stdout.readline()))
    except (BrokenPipeError, json.JSONDecodeError) as error:
        raise RuntimeError("the deciding process has ended; its error stands above") from error


def _serve(shards: int, buckets: int, seed: int, full: bool) -> None:
    view, policy = made_up(shards, buckets, seed, full), DecisionPolicy(planner="greedy")
    fleet_mb = _peak_mb()
    for _ in sys.stdin:
        gc.collect()
        began, spent = time.perf_counter(), time.process_time()
        decision = decide(view, policy)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - spent
        risky = sum(risk.score + risk.cost > policy.migration_threshold for risk in decision.risks)
        moved = sum(plan.bytes for plan in decision.plans)
        decided = Decided(seconds, cpu_s, _peak_mb(), fleet_mb, risky, len(decision.plans), moved)
        print(json.dumps(decided.__dict__), flush=True)


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    numbers, rest = sys.argv[1:4], sys.argv[4:]
    _serve(int(numbers[0]), int(numbers[1]), int(numbers[2]), rest == ["full"])
