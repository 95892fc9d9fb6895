"""The demo's application: writers and readers through the router, at the rate that the real flights give.

    python -m foreshard.fleet.workload --config FILE.json

Arrivals are Poisson, open-loop: they do not wait for earlier answers, up to one second of delay. SIGTERM or SIGINT
finishes what is under way, flushes and exits 0. It works through restarts of the control database and of shards.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foreshard.clock import FleetClock
from foreshard.control.engine import ControlDatabase
from foreshard.errors import ForeshardError, InvalidInput
from foreshard.fleet.ledger import Ledger, Start
from foreshard.fleet.operations import Operations, queries_per_operation
from foreshard.router import Router
from foreshard.router.fleet_router import fleet_router

log = logging.getLogger(__name__)

APPLICATION_NAME = "airline-workload"
RATES_EVERY_S = 60.0
LONGEST_DELAY_S = 1.0
STATUS_EVERY_S = 1.0
RETRY_START_S = 1.0

Rates = Callable[[], Mapping[str, float]]
"""Queries per second of each bucket, now."""

# The only read of whole buckets; reading key by key would take thousands of round trips.
READ_STARTS = """
    SELECT a.tailnum, a.cycles, min(f.flight_id)
    FROM {aircraft} a JOIN {flights} f USING (tailnum) GROUP BY a.tailnum, a.cycles
"""


class WorkloadConfig(BaseModel):
    """The configuration file. Rates are those of the real flights unless ``rates`` fixes them by bucket."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    control_dsn: str
    ledger: Path
    status: Path
    clock_offset_seconds: float = 0.0
    rates: dict[str, float] | None = None
    seed: int = 7
    writers: int = Field(default=6, ge=1, le=64)
    readers: int = Field(default=6, ge=1, le=64)
    write_share: float = Field(default=0.3, ge=0, le=1)

    @classmethod
    def load(cls, path: Path) -> WorkloadConfig:
        """Read the file. Raises ``InvalidInput`` that names the file or the field."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidInput("config", f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidInput(".".join(map(str, first["loc"])) or "config", first["msg"]) from error


class Traffic:
    """Which aircraft is next, and when: the arrivals of one group of threads. Thread-safe."""

    def __init__(self, fleet: Mapping[str, list[Start]], rates: Mapping[str, float], share: float) -> None:
        self._fleet = fleet
        self._share = share
        self.set_rates(rates)

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Change the rates (queries per second by bucket); buckets without aircraft are left out."""
        buckets = [bucket for bucket, rate in rates.items() if rate > 0 and self._fleet.get(bucket)]
        weights = [rates[bucket] for bucket in buckets]
        self._now = (
            buckets,
            weights,
            sum(weights) * self._share,
        )  # one assignment: readers see all or nothing

    def wait_s(self, draw: random.Random, threads: int) -> float:
        """Time to the next arrival at one of ``threads`` threads; a second if there is no traffic."""
        per_second = self._now[2] / threads
        return draw.expovariate(per_second) if per_second > 0 else 1.0

    def aircraft(self, draw: random.Random) -> Start | None:
        """The aircraft of the next arrival, or None if there is no traffic."""
        buckets, weights, per_second = self._now
        return draw.choice(self._fleet[draw.choices(buckets, weights)[0]]) if per_second > 0 else None


@dataclass(frozen=True)
class _Group:
    name: str
    threads: int
    traffic: Traffic
    act: Callable[[Start, random.Random], None]


class Workload:
    """The threads of one run. ``stop`` may be called from a signal handler."""

    def __init__(self, config: WorkloadConfig, rates: Rates) -> None:
        self._config = config
        self._rates = rates
        self._stop = threading.Event()

    def stop(self) -> None:
        """Begin no new operation."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`; the last status is written when everything under way has ended."""
        with (
            closing(Ledger(self._config.ledger)) as ledger,
            closing(ControlDatabase(self._config.control_dsn)) as control,
        ):
            router = self._persistently(lambda: fleet_router(control, APPLICATION_NAME))
            if router is None:
                return
            with closing(router):
                if self._persistently(lambda: note_starts(router, ledger)) is not None:
                    self._work(router, ledger)

    def _persistently(self, attempt: Callable[[], Any]) -> Any:
        """The result, however long servers are away; None if stopped before."""
        while not self._stop.is_set():
            try:
                return attempt()
            except (ForeshardError, psycopg.OperationalError) as error:
                log.warning("Not started yet: %s", error)
                self._stop.wait(RETRY_START_S)
        return None

    def _work(self, router: Router, ledger: Ledger) -> None:
        starts = ledger.starts()
        fleet: dict[str, list[Start]] = defaultdict(list)
        for start in starts.values():
            fleet[start.bucket].append(start)
        operations = Operations(router, ledger, starts.values())
        share = self._config.write_share
        pace = 1 / queries_per_operation(share)
        rates = self._rates()
        groups = (
            _Group("write", self._config.writers, Traffic(fleet, rates, share * pace), operations.write),
            _Group("read", self._config.readers, Traffic(fleet, rates, (1 - share) * pace), operations.read),
        )
        threads = [
            threading.Thread(
                target=self._client, args=(group, number, operations), name=f"{group.name}-{number}"
            )
            for group in groups
            for number in range(group.threads)
        ]
        for thread in threads:
            thread.start()
        self._watch(operations, groups, router)
        for thread in threads:
            thread.join()
        self._write_status("stopped", operations, router)

    def _client(self, group: _Group, number: int, operations: Operations) -> None:
        draw = random.Random(f"{self._config.seed}-{group.name}-{number}")
        due = monotonic()
        while True:
            due += group.traffic.wait_s(draw, group.threads)
            if self._stop.wait(max(0.0, due - monotonic())):
                return
            if monotonic() - due > LONGEST_DELAY_S:
                due = monotonic()
                operations.late()
            aircraft = group.traffic.aircraft(draw)
            if aircraft is not None:
                group.act(aircraft, draw)

    def _watch(self, operations: Operations, groups: tuple[_Group, ...], router: Router) -> None:
        next_rates = monotonic() + RATES_EVERY_S
        while not self._stop.wait(STATUS_EVERY_S):
            if monotonic() >= next_rates:
                next_rates += RATES_EVERY_S
                rates = self._rates()
                for group in groups:
                    group.traffic.set_rates(rates)
            self._write_status("running", operations, router)
        self._write_status("stopping", operations, router)

    def _write_status(self, state: str, operations: Operations, router: Router) -> None:
        status = {
            "state": state,
            "pid": os.getpid(),
            "at": datetime.now(UTC).isoformat(),
            "routing_epoch": router.map.epoch,
            **operations.status(),
        }
        replacement = self._config.status.with_suffix(".new")
        replacement.write_text(json.dumps(status, indent=1))
        replacement.replace(self._config.status)


def note_starts(router: Router, ledger: Ledger) -> bool:
    """Note every aircraft's counter in the ledger, unless an earlier run did; True when they stand there."""
    if not ledger.starts():
        ledger.note_starts(
            Start(tailnum, read.bucket, cycles, flight_id)
            for read in router.report(READ_STARTS)
            for tailnum, cycles, flight_id in read.rows
        )
    return True


def flight_rates(clock: FleetClock) -> Rates:
    """The rates that the real flights give at the fleet's present."""
    from foreshard.fleet.flights import BUCKETS, load_airline
    from foreshard.fleet.load_history import Demand

    demand = Demand(load_airline())
    return lambda: {bucket: demand.rate_at(bucket, clock.now()) for bucket in BUCKETS}


def main() -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="Readers and writers of the demo's airline.")
    parser.add_argument("--config", type=Path, required=True)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        config = WorkloadConfig.load(parser.parse_args().config)
        fixed = config.rates
        rates = (
            (lambda: fixed)
            if fixed is not None
            else flight_rates(FleetClock(timedelta(seconds=config.clock_offset_seconds)))
        )
    except ForeshardError as error:
        print(error, file=sys.stderr)
        return 2
    workload = Workload(config, rates)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: workload.stop())
    workload.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
