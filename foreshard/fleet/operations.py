"""What the demo's clients do to the airline, one transaction at a time, through the router."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from time import perf_counter
from uuid import UUID

from foreshard.errors import ForeshardError, RefusedWrite, ShardUnavailable, UnknownCommitOutcome
from foreshard.fleet.ledger import Kind, Ledger, Start, State
from foreshard.router import Isolation, Router, Transaction
from foreshard.router.latency import LatencyHistogram

KIND_WEIGHTS = {Kind.EVENT: 0.50, Kind.CYCLE: 0.35, Kind.READ_MODIFY_WRITE: 0.15}
COUNTER_READS = 0.2

INSERT_EVENT = """
    INSERT INTO {passenger_events} (tailnum, flight_id, op_id, kind, passenger, at, detail)
    VALUES (%s, %s, %s, 'boarded', %s, pg_catalog.now(), 'workload')
"""
COUNT_CYCLE = """
    UPDATE {aircraft} SET cycles = cycles + 1, updated_at = pg_catalog.now()
    WHERE tailnum = %s RETURNING cycles
"""
READ_CYCLES = "SELECT cycles FROM {aircraft} WHERE tailnum = %s"
LOCK_CYCLES = "SELECT cycles FROM {aircraft} WHERE tailnum = %s FOR UPDATE"
WRITE_CYCLES = """
    UPDATE {aircraft} SET cycles = %s, updated_at = pg_catalog.now()
    WHERE tailnum = %s RETURNING cycles
"""
READ_FLIGHTS = """
    SELECT flight_id, origin, dest, sched_dep, dep_delay FROM {flights}
    WHERE tailnum = %s ORDER BY flight_id DESC LIMIT 20
"""


def queries_per_operation(write_share: float) -> float:
    """Index scans that one operation causes on average: one, but for a read-modify-write, which makes two."""
    return 1 + write_share * KIND_WEIGHTS[Kind.READ_MODIFY_WRITE]


class LostUpdateVisible(ForeshardError):
    """An UPDATE by key found no row although the aircraft exists: the transaction ran on the wrong side."""


class Operations:
    """Runs operations, writes the ledger, counts what became of them. Thread-safe."""

    def __init__(self, router: Router, ledger: Ledger, starts: Iterable[Start]) -> None:
        self._router = router
        self._ledger = ledger
        self._lock = threading.Lock()
        self._last_cycles = {start.tailnum: start.cycles for start in starts}
        self._counts: Counter[str] = Counter()
        self._latency = {"read": LatencyHistogram(), "write": LatencyHistogram()}
        self._last_error: str | None = None

    def write(self, aircraft: Start, draw: random.Random) -> None:
        """One write of a kind drawn by weight; whatever becomes of it stands in the ledger."""
        kind = draw.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
        isolation = (
            draw.choice(list(Isolation)) if kind is Kind.READ_MODIFY_WRITE else Isolation.READ_COMMITTED
        )
        tailnum = aircraft.tailnum
        op_id = self._ledger.intend(kind, tailnum, aircraft.bucket)
        body: Callable[[Transaction], int | None] = {
            Kind.EVENT: lambda tx: _insert_event(tx, aircraft, op_id, draw.randrange(10_000_000)),
            Kind.CYCLE: lambda tx: _count_cycle(tx, tailnum),
            Kind.READ_MODIFY_WRITE: lambda tx: _read_modify_write(tx, tailnum, isolation),
        }[kind]
        served: list[Transaction] = []

        def once(tx: Transaction) -> int | None:
            served.append(tx)
            return body(tx)

        begun = perf_counter()
        try:
            value = self._router.run(tailnum, once, isolation=isolation)
        except UnknownCommitOutcome as error:
            self._ledger.settle(op_id, State.UNKNOWN)
            self._count("unknown", error)
        except (RefusedWrite, ShardUnavailable) as error:
            self._ledger.settle(op_id, State.REFUSED)
            self._count("refused", error)
        except Exception as error:  # nothing was committed; the demo shows it and goes on
            self._ledger.settle(op_id, State.REFUSED)
            self._count("lost_update_visible" if isinstance(error, LostUpdateVisible) else "errors", error)
        else:
            seconds = perf_counter() - begun
            tx = served[-1]
            self._ledger.settle(
                op_id, State.ACKNOWLEDGED, shard=tx.route.shard, redirected=tx.redirected, value=value
            )
            self._acknowledged(tailnum, value, seconds, retries=len(served) - 1, redirected=tx.redirected)

    def read(self, aircraft: Start, draw: random.Random) -> None:
        """One read: the latest flights, or the counter, which must not be older than what was acknowledged."""
        tailnum = aircraft.tailnum
        counter = draw.random() < COUNTER_READS
        with self._lock:
            at_least = self._last_cycles[tailnum]
        begun = perf_counter()
        try:
            rows = self._router.query(tailnum, READ_CYCLES if counter else READ_FLIGHTS, (tailnum,))
        except Exception as error:  # the demo shows it and goes on
            self._count("read_errors", error)
            return
        seconds = perf_counter() - begun
        with self._lock:
            self._counts["reads"] += 1
            self._latency["read"].add(seconds)
            if not rows:
                self._counts["empty_reads"] += 1
            elif counter and rows[0][0] < at_least:
                self._counts["stale_reads"] += 1

    def late(self) -> None:
        """An arrival was given up because all threads were busy for too long."""
        self._count("late")

    def status(self) -> dict[str, object]:
        """Counts and latencies so far, ready for JSON."""
        with self._lock:
            return {
                "operations": {name: self._counts[name] for name in COUNTED},
                "latency": {name: histogram.summary() for name, histogram in self._latency.items()},
                "last_error": self._last_error,
            }

    def _acknowledged(
        self, tailnum: str, value: int | None, seconds: float, *, retries: int, redirected: bool
    ) -> None:
        with self._lock:
            self._counts["acknowledged"] += 1
            self._counts["redirected"] += redirected
            self._counts["retries"] += retries
            self._latency["write"].add(seconds)
            if value is not None:
                self._last_cycles[tailnum] = max(self._last_cycles[tailnum], value)

    def _count(self, name: str, error: Exception | None = None) -> None:
        with self._lock:
            self._counts[name] += 1
            if error is not None:
                self._last_error = f"{type(error).__name__}: {error}"


COUNTED = (
    "reads",
    "empty_reads",
    "stale_reads",
    "read_errors",
    "acknowledged",
    "redirected",
    "retries",
    "refused",
    "unknown",
    "errors",
    "lost_update_visible",
    "late",
)
"""What `Operations.status` counts; ``retries`` only those of whole bodies that were acknowledged in the end."""


def _insert_event(tx: Transaction, aircraft: Start, op_id: UUID, passenger: int) -> None:
    tx.execute(INSERT_EVENT, (aircraft.tailnum, aircraft.flight_id, op_id, f"P{passenger:07}"))


def _count_cycle(tx: Transaction, tailnum: str) -> int:
    return _only(tx.execute(COUNT_CYCLE, (tailnum,)).fetchall(), tx, tailnum)


def _read_modify_write(tx: Transaction, tailnum: str, isolation: Isolation) -> int:
    # Under READ COMMITTED nothing but a lock keeps two clients from overwriting each other, on one server too.
    read = LOCK_CYCLES if isolation is Isolation.READ_COMMITTED else READ_CYCLES
    cycles = _only(tx.execute(read, (tailnum,)).fetchall(), tx, tailnum)
    return _only(tx.execute(WRITE_CYCLES, (cycles + 1, tailnum)).fetchall(), tx, tailnum)


def _only(rows: list[tuple[int]], tx: Transaction, tailnum: str) -> int:
    if len(rows) != 1:
        raise LostUpdateVisible(
            f"{len(rows)} rows of aircraft {tailnum} on {tx.route.shard}.", bucket=tx.schema, tailnum=tailnum
        )
    return rows[0][0]
