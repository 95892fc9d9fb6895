"""The flip: ownership of some keys goes from one side to the other. This is where writes are paused.

Told top to bottom (DESIGN section 5, *Flip*):

1. journal the intent, with a number that only grows;
2. wait for a quiet moment: a marker returns fast, no transaction holds the fence for long;
3. close: under the exclusive fence lock the closing side gives the keys up and writes a marker. From here
   on nobody owns them; their writes are refused, and retried by the router;
4. wait until the marker was applied on the opening side: it has every write the closing side ever accepted;
5. open: the opening side owns the keys;
6. publish the routing epoch and journal the outcome.

After a crash anywhere the same steps are run again with the same number: each is idempotent. If the marker does
not come, the opening side first promises never to open this flip (cancel); only then the closing side takes its
keys back, as a flip of its own number.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
from psycopg import errors

from foreshard.control.flip_store import FlipRecord
from foreshard.errors import FlipFailed, ForeshardError, LeaseLost
from foreshard.migration import failpoint
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.postgres.marker import MarkerLine
from foreshard.topology.keys import SLOTS

logger = logging.getLogger(__name__)

QUIET_MARKER_MS = 6.0
QUIET_HOLDER_MS = 50.0
QUIET_PATIENCE_S = 5.0
CLOSE_ATTEMPTS = 40
SETTLE_PATIENCE_S = 60.0
"""As long as a server takes to start again."""


@dataclass(frozen=True)
class FlipResult:
    """A finished flip. ``pause_ms``: from the first request for the fence to the commit of the open."""

    flip_no: int
    from_bound: int
    to_bound: int
    pause_ms: float
    attempts: int


@dataclass(frozen=True)
class _Ends:
    """The two servers of one flip, and markers from the one that closes to the one that opens."""

    closing: Connection
    opening: Connection
    markers: MarkerLine


def flip(work: Work, to_bound: int) -> FlipResult | None:
    """Move the bound to ``to_bound`` (0..1024): raised, the target gains keys; lowered, the source does.

    Returns None if the bound stood there already (an interrupted flip was finished).

    Raises:
        GateRefused, ApprovalRequired: the flip is not allowed; asked for at the cutover, or by policy at every flip
            that gives the target keys.
        FlipFailed: the fence or the marker could not be had; ownership is as before.
        LeaseLost: another runner drives the migration.
        psycopg.OperationalError: a shard went away in the middle; `finish_interrupted` settles it.
    """
    finish_interrupted(work)
    bound = work.record.bound
    if bound == to_bound:
        return None
    if to_bound == SLOTS or (to_bound > bound and work.settings.approval == "every_flip"):
        authorise(work, work.flips.next_number(work.lease.migration))
    if bound == 0:
        _await_routers(work)
    intent = work.flips.intend(work.lease, bound, to_bound)
    try:
        with _ends(work, intent) as ends:
            _await_quiet(work, ends)
            work.store.renew(work.lease, work.lease_seconds)  # no lease, no flip: also after a long wait
            return _carry_out(work, intent, ends)
    except LeaseLost:
        raise
    except (psycopg.Error, ForeshardError):
        _settle(work)
        raise


def authorise(work: Work, flip_no: int) -> None:
    """A flip's conditions, checked where it happens, so that no caller gets around them.

    Raises:
        GateRefused: no fresh, passed ``before_cutover`` checks for exactly this flip.
        ApprovalRequired: the policy wants a person's word for this flip, and it is not there.
    """
    work.flips.require_gate(work.lease.migration, "before_cutover", flip_no)
    if work.settings.approval != "never":
        work.flips.require_approval(work.lease.migration, flip_no)


def finish_interrupted(work: Work) -> None:
    """Settle a flip that a dead runner left: finish it if it had closed, else forget it. Idempotent.

    A closed flip is finished without asking gate or person again: they allowed it before it closed, and until it is
    finished its keys are refused on both sides.
    """
    unfinished = work.flips.unfinished(work.lease.migration)
    bounds = work.bounds()
    before = work.record.bound
    if bounds.source is None or bounds.target is None:
        return
    if bounds.source > bounds.target:  # some keys have no owner: a flip closed and did not open
        if unfinished is None:  # cancelled, but not taken back: the routing map says what it was before
            closed = bounds.source if before == bounds.target else bounds.target
            unfinished = work.flips.intend(work.lease, closed, before)
        with _ends(work, unfinished) as ends:
            if unfinished.to_bound == before:
                _finish_take_back(work, unfinished, ends)
            else:
                _carry_out(work, unfinished, ends, resumed=True)
    elif unfinished is not None and bounds.source == unfinished.to_bound:
        with _ends(work, unfinished) as ends:
            # An open that rolled back has moved its sequence, not its mirror row.
            guard.open_(ends.opening, work.names, unfinished.flip_no, unfinished.to_bound)
        _journal_opened(work, unfinished, pause_ms=None, attempts=1)
    elif unfinished is not None:
        with _ends(work, unfinished) as ends:  # a late runner may neither close nor open it afterwards
            guard.cancel(ends.closing, work.names, unfinished.flip_no)
            guard.cancel(ends.opening, work.names, unfinished.flip_no)
        if work.bounds() != bounds:  # it was faster
            finish_interrupted(work)
            return
        work.flips.record(work.lease, unfinished.flip_no, "cancelled")
        if bounds.source != before:
            work.store.set_routing(work.lease, bound=bounds.source)


def _settle(work: Work) -> None:
    """After an error: no key stays without owner if the shards answer again soon. The error itself goes on."""
    deadline = time.monotonic() + SETTLE_PATIENCE_S
    while True:
        try:
            finish_interrupted(work)
            return
        except (LeaseLost, FlipFailed):  # the next runner's, or settled: the keys were taken back
            return
        except (psycopg.Error, ForeshardError) as error:
            if time.monotonic() > deadline:
                logger.error("migration %s: a flip is not settled: %s", work.lease.migration, error)
                return
        time.sleep(0.5)


def _carry_out(work: Work, intent: FlipRecord, ends: _Ends, *, resumed: bool = False) -> FlipResult:
    """Close, wait for the marker, open. Nothing else happens inside the pause.

    ``resumed``: a runner that died had closed already, so the pause began about when the flip was intended.
    """
    started = time.perf_counter()
    marker, attempts = _close(work, intent, ends)
    failpoint.hit("flip_closed", work.state_dir)
    arrived = ends.markers.applied(marker, work.settings.marker_timeout_s)
    if not arrived and guard.cancel(ends.opening, work.names, intent.flip_no):
        _take_back(work, intent, ends)
    try:
        guard.open_(ends.opening, work.names, intent.flip_no, intent.to_bound)
    except psycopg.Error as error:
        if error.sqlstate == guard.STALE_FLIP:  # cancelled here by a runner that died before it took back
            _take_back(work, intent, ends)
        raise
    pause_ms = (time.perf_counter() - started) * 1000
    if resumed:
        pause_ms = work.flips.age_ms(work.lease.migration, intent.flip_no)
    _journal_opened(work, intent, pause_ms, attempts)
    return FlipResult(intent.flip_no, intent.from_bound, intent.to_bound, pause_ms, attempts)


def _close(work: Work, intent: FlipRecord, ends: _Ends) -> tuple[UUID, int]:
    """Close with short lock timeouts, since writers queue behind a waiting exclusive lock."""
    for attempt in range(1, CLOSE_ATTEMPTS + 1):
        marker = uuid4()
        try:
            guard.close(ends.closing, work.names, intent.flip_no, intent.to_bound, marker)
        except errors.LockNotAvailable:
            time.sleep(random.uniform(0.5, 1.5) * work.settings.lock_timeout_ms / 1000)
            continue
        return marker, attempt
    holders = guard.fence_holders(ends.closing, work.names, 0)
    work.flips.record(work.lease, intent.flip_no, "cancelled", attempts=CLOSE_ATTEMPTS)
    raise FlipFailed(
        f"The fence could not be had in {CLOSE_ATTEMPTS} attempts.",
        remedy="Long transactions hold it: end them, or try again when they are over.",
        holders=[{"pid": pid, "age_ms": age} for pid, age in holders],
    )


def _take_back(work: Work, intent: FlipRecord, ends: _Ends) -> None:
    """The opening side will never open this flip: the closing side takes its keys back. Always raises.

    No marker is needed: the opening side never owned these keys.
    """
    work.flips.record(work.lease, intent.flip_no, "cancelled")
    back = work.flips.intend(work.lease, intent.to_bound, intent.from_bound)
    guard.open_(ends.closing, work.names, back.flip_no, intent.from_bound)
    _journal_opened(work, back, pause_ms=None, attempts=1)
    raise FlipFailed(
        f"The marker of flip {intent.flip_no} was not applied in {work.settings.marker_timeout_s:g} s; "
        "ownership is as before.",
        remedy="Look at lag and errors of the subscriptions (`foreshard migration show`).",
    )


def _finish_take_back(work: Work, back: FlipRecord, ends: _Ends) -> None:
    """The keys go back to the side that closed last. A marker is not waited for: the other side never owned them."""
    guard.cancel(ends.closing, work.names, back.flip_no)
    other = guard.state(ends.closing, work.names)
    if other is not None and other.bound != back.to_bound:  # it had opened after all, before it was cancelled
        finish_interrupted(work)
        return
    guard.open_(ends.opening, work.names, back.flip_no, back.to_bound)
    _journal_opened(work, back, pause_ms=None, attempts=1)


def _journal_opened(work: Work, intent: FlipRecord, pause_ms: float | None, attempts: int) -> None:
    work.store.set_routing(work.lease, bound=intent.to_bound)
    work.flips.record(work.lease, intent.flip_no, "opened", pause_ms=pause_ms, attempts=attempts)


def _await_routers(work: Work) -> None:
    """Before the first flip, wait until no router believes a map from before the migration.

    Such a map is believed for a lease after it was read; later, or knowing of the migration, a router asks the shard
    before it reads. Writes need no such wait, the shard refuses them.
    """
    while (left := work.settings.router_lease_s - work.store.age_s(work.lease.migration)) > 0:
        time.sleep(left)


def _await_quiet(work: Work, ends: _Ends) -> None:
    """Wait for a good moment, but not for ever: a moment that is not ideal makes a longer pause, no error.

    Raises:
        FlipFailed: markers do not come through at all; closing now would only refuse writes.
    """
    deadline = time.monotonic() + QUIET_PATIENCE_S
    while time.monotonic() < deadline:
        fast = ends.markers.drain(work.settings.marker_timeout_s) < QUIET_MARKER_MS
        if fast and not guard.fence_holders(ends.closing, work.names, QUIET_HOLDER_MS):
            return
        time.sleep(0.02)


@contextmanager
def _ends(work: Work, intent: FlipRecord) -> Iterator[_Ends]:
    closing = Side.SOURCE if intent.to_bound > intent.from_bound else Side.TARGET
    with (
        work.connection(closing) as close_conn,
        work.connection(closing.other) as open_conn,
        work.marker_line(closing) as markers,
    ):
        # Far below deadlock_timeout, so that a waiting close never makes writers wait for the deadlock check.
        close_conn.execute(f"SET lock_timeout = {work.settings.lock_timeout_ms}".encode())
        yield _Ends(close_conn, open_conn, markers)
