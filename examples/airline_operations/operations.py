"""What the airline does with its data. Each operation is about one aircraft: its tail number is the key.

In a query ``{flights}`` stands for the table ``flights`` of the bucket that the key is in; which bucket that is, and
which shard serves it now, is the router's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.errors import ForeignKeyViolation

from foreshard.router import Router, Transaction

LATEST = 10

AIRCRAFT = "SELECT model, seats, cycles FROM {aircraft} WHERE tailnum = %s"
FLIGHTS = """
    SELECT flight_id, origin, dest, sched_dep FROM {flights}
    WHERE tailnum = %s ORDER BY flight_id DESC LIMIT %s
"""
BOARDING = "SELECT flight_id, passenger FROM {passenger_events} WHERE tailnum = %s AND op_id = %s"
BOARD = """
    INSERT INTO {passenger_events} (tailnum, flight_id, op_id, kind, passenger, at, detail)
    VALUES (%s, %s, %s, 'boarded', %s, pg_catalog.now(), 'airline operations')
"""
LOCK = "SELECT cycles FROM {aircraft} WHERE tailnum = %s FOR NO KEY UPDATE"
COUNT = """
    UPDATE {aircraft} SET cycles = cycles + 1, updated_at = pg_catalog.now()
    WHERE tailnum = %s RETURNING cycles
"""
SIGN_OFF = "UPDATE {aircraft} SET cycles = %s, updated_at = pg_catalog.now() WHERE tailnum = %s"
TOTALS = "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(cycles), 0)::bigint FROM {aircraft}"


class NoSuchThing(Exception):
    """The aircraft, its flight or the boarding does not exist."""


class FlownMeanwhile(Exception):
    """The aircraft has counted cycles since the engineer looked at it."""


@dataclass(frozen=True)
class Flight:
    flight_id: int
    origin: str
    dest: str
    sched_dep: datetime


@dataclass(frozen=True)
class Aircraft:
    """``cycles``: take-offs, and runs of the engines after maintenance. ``flights``: the latest first."""

    tailnum: str
    model: str | None
    seats: int | None
    cycles: int
    flights: list[Flight]


@dataclass(frozen=True)
class Boarding:
    flight_id: int
    passenger: str


@dataclass(frozen=True)
class Totals:
    """``exact`` is False if an aircraft may be told some milliseconds late, because its bucket is on the move."""

    aircraft: int
    cycles: int
    exact: bool


class Operations:
    """The airline's operations. Thread-safe, as the router is."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def aircraft(self, tailnum: str) -> Aircraft:
        """One aircraft with its latest flights. Raises ``NoSuchThing``."""
        # Single reads, each by itself: the router repeats some of them on both copies while it moves a bucket, and
        # compares. The order of the flights has a meaning, so it says so.
        found = self._router.query(tailnum, AIRCRAFT, (tailnum,))
        if not found:
            raise NoSuchThing(f"There is no aircraft {tailnum}.")
        flights = self._router.query(tailnum, FLIGHTS, (tailnum, LATEST), ordered=True)
        model, seats, cycles = found[0]
        return Aircraft(tailnum, model, seats, cycles, [Flight(*row) for row in flights])

    def board(self, tailnum: str, flight_id: int, passenger: str, request: UUID) -> Boarding:
        """Board a passenger; the same ``request`` again boards nobody a second time. Raises ``NoSuchThing``."""

        def once(tx: Transaction) -> Boarding:
            # The lock lets two copies of one request in one after the other: the second finds the first's row.
            _cycles(tx, tailnum)
            known = tx.execute(BOARDING, (tailnum, request)).fetchone()
            if known is None:
                tx.execute(BOARD, (tailnum, flight_id, request, passenger))
            return Boarding(flight_id, passenger) if known is None else Boarding(*known)

        try:
            return self._router.run(tailnum, once)
        except ForeignKeyViolation:
            raise NoSuchThing(f"Aircraft {tailnum} has no flight {flight_id}.") from None

    def boarding(self, tailnum: str, request: UUID) -> Boarding:
        """What became of a request to board. Raises ``NoSuchThing`` if nothing did."""
        found = self._router.query(tailnum, BOARDING, (tailnum, request))
        if not found:
            raise NoSuchThing(f"Nobody boarded {tailnum} by request {request}.")
        return Boarding(*found[0])

    def count_cycle(self, tailnum: str) -> int:
        """Count a take-off; returns the counter. Raises ``NoSuchThing``."""
        counted = self._router.execute(tailnum, COUNT, (tailnum,))
        if not counted:
            raise NoSuchThing(f"There is no aircraft {tailnum}.")
        return int(counted[0][0])

    def sign_off(self, tailnum: str, seen: int) -> int:
        """An engineer who saw the counter at ``seen`` lets the aircraft fly; the run of its engines counts as a cycle.

        Raises ``FlownMeanwhile`` if the counter has moved on, ``NoSuchThing`` if there is no such aircraft.
        """

        def once(tx: Transaction) -> int:
            # It may run more than once, so it does nothing but talk to the database: all of that is committed once.
            cycles = _cycles(tx, tailnum)
            if cycles != seen:
                raise FlownMeanwhile(f"{tailnum} stands at {cycles} cycles, not at {seen}: look at it again.")
            tx.execute(SIGN_OFF, (cycles + 1, tailnum))
            return cycles + 1

        return self._router.run(tailnum, once)

    def totals(self) -> Totals:
        """The whole fleet. Each bucket answers for its own moment: good for reports, not for decisions."""
        answers = list(self._router.report(TOTALS))
        return Totals(
            aircraft=sum(answer.rows[0][0] for answer in answers),
            cycles=sum(answer.rows[0][1] for answer in answers),
            exact=all(answer.exact for answer in answers),
        )


def _cycles(tx: Transaction, tailnum: str) -> int:
    """The counter, locked to the end of the transaction."""
    row = tx.execute(LOCK, (tailnum,)).fetchone()
    if row is None:
        raise NoSuchThing(f"There is no aircraft {tailnum}.")
    return int(row[0])
