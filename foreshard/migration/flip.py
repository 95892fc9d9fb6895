"""The flip: ownership of some keys goes from one side to the other. This is where writes are paused.

Told top to bottom (DESIGN section 5, *Flip*):

1. journal the intent, with a number that only grows;
2. wait for a quiet moment: a marker returns fast, no transaction holds the fence for long;
3. close: under the exclusive fence lock the closing side gives the keys up and writes a marker. From here
   on nobody owns them; their writes are refused, and retried by the router;
4. the marker is applied on the opening side, which has now every write that the closing side ever accepted: the
   trigger that the marker fires opens this side. Where there are standbys the marker does not open: first those of
   the closing side must have the close, and those of the opening side the marker (see `foreshard.migration.failover`);
5. open: again, and on disk; what the trigger has done already stays as it is;
6. publish the routing epoch and journal the outcome.

After a crash anywhere the same steps are run again with the same number: each is idempotent. If the marker does
not come, the opening side first promises never to open this flip (cancel); only then the closing side takes its
keys back, as a flip of its own number.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn
from uuid import UUID, uuid4

import psycopg
from psycopg import errors

from foreshard.control.flip_store import FlipRecord
from foreshard.errors import FlipFailed, ForeshardError, LeaseLost
from foreshard.migration import approval_policy, failover, failpoint, routers, serving
from foreshard.migration.settlement import Bounds, Settlement, settlement
from foreshard.migration.work import Work
from foreshard.postgres import guard, standbys
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
    closing_standbys: frozenset[str]
    opening_standbys: frozenset[str]

    @property
    def alone(self) -> bool:
        """Whether neither server has a standby that a flip must wait for."""
        return not (self.closing_standbys or self.opening_standbys)


def flip(
    work: Work,
    to_bound: int,
    *,
    before_close: Callable[[], None] = lambda: None,
    after_open: Callable[[], None] = lambda: None,
) -> FlipResult | None:
    """Move the bound to ``to_bound`` (0..1024): raised, the target gains keys; lowered, the source does.

    ``before_close`` is called when nothing is left to wait for, right before the close; if it raises, the flip is
    cancelled. ``after_open`` is called as soon as the new owner is journalled; it must not raise.

    Returns None if the bound stood there already (an interrupted flip was finished).

    Raises:
        GateRefused, ApprovalRequired: the flip is not allowed; asked for at the cutover, or by policy at every flip
            that gives the target keys.
        FlipFailed: the fence, the marker or a standby could not be had; ownership is as before.
        FailedOver: a shard was failed over, and a stream that the flip stands on is not whole.
        LeaseLost: another runner drives the migration.
        psycopg.OperationalError: a shard went away in the middle; `finish_interrupted` settles it.
    """
    finish_interrupted(work)
    bound = work.record.bound
    if bound == to_bound:
        serving.close_what_lost_all(work, bound)
        return None
    if to_bound > bound and approval_policy.guarded(work.approval, cutover=to_bound == SLOTS):
        authorise(work, work.flips.next_number(work.lease.migration))
    if bound == 0:
        # From here on some keys are not where a map from before the migration says. A router that knows of it asks the
        # shard before it reads; writes need no such wait, the shard refuses them.
        routers.await_acknowledged(work, work.facts()["published_epoch"])
    opening = _opening(bound, to_bound)
    failover.prove(work, opening=opening)
    serving.open_to_applications(work, opening)
    intent = work.flips.intend(work.lease, bound, to_bound)
    try:
        with _ends(work, intent) as ends:
            _await_quiet(work, ends)
            before_close()
            work.store.renew(work.lease, work.lease_seconds)  # no lease, no flip: also after a long wait
            done = _carry_out(work, intent, ends)
            after_open()
    except LeaseLost:
        raise
    except (psycopg.Error, ForeshardError):
        _settle(work)
        raise
    serving.close_what_lost_all(work, to_bound)
    return done


def authorise(work: Work, flip_no: int) -> None:
    """A flip's conditions, checked where it happens, so that no caller gets around them.

    Raises:
        GateRefused: no fresh, passed ``before_cutover`` checks for exactly this flip.
        ApprovalRequired: the policy wants a person's word for this flip, and it is not there.
    """
    work.flips.require_gate(work.lease.migration, "before_cutover", flip_no)
    asking = approval_policy.asking_for(
        work, cutover=True
    )  # where it is not the cutover, every flip is guarded
    if asking.wanted:
        work.approvals.require(work.lease.migration, flip_no)
    else:
        work.approvals.not_asked(work.lease, flip_no, asking)


def finish_interrupted(work: Work) -> None:
    """Settle a flip that a dead runner left: finish it if it had closed, else forget it. Idempotent.

    A closed flip is finished without asking gate or person again: they allowed it before it closed, and until it is
    finished its keys are refused on both sides.
    """
    failover.settle(work)
    intent = work.flips.unfinished(work.lease.migration)
    bounds = work.bounds()
    before = work.record.bound
    what = settlement(bounds, None if intent is None else intent.to_bound, before)
    if what is Settlement.NOTHING:
        return
    if what is Settlement.CORRECT_JOURNAL:
        work.store.set_routing(work.lease, bound=bounds.source)
        return
    if what is Settlement.INTEND_TAKE_BACK:
        intent = _intend_take_back(work, bounds)
        what = Settlement.TAKE_BACK
    assert intent is not None  # only without one there is nothing to settle
    if what is not Settlement.CANCEL:
        serving.open_to_applications(work, _opening(intent.from_bound, intent.to_bound))
    with _ends(work, intent) as ends:
        if what is Settlement.TAKE_BACK:
            _finish_take_back(work, intent, ends)
            finish_interrupted(work)  # after two failovers the other side may have keys to open, too
        elif what is Settlement.CARRY_OUT:
            _carry_out(work, intent, ends, resumed=True)
        elif what is Settlement.CONFIRM:
            # An open that rolled back has moved its sequence, not its mirror row.
            guard.open_(ends.opening, work.names, intent.flip_no, intent.to_bound)
            _journal_opened(work, intent, pause_ms=None, attempts=1)
        else:
            _forget(work, intent, ends)


def _intend_take_back(work: Work, bounds: Bounds) -> FlipRecord:
    """Keys without an owner and without a flip get the owner that the journal names, as far as both sides allow.

    Where both were failed over the journal may name a bound that neither has any more: then the nearest that they have.
    """
    assert bounds.source is not None  # else there is nothing to settle
    assert bounds.target is not None
    wanted = min(max(work.record.bound, bounds.target), bounds.source)
    if wanted != work.record.bound:
        work.store.set_routing(work.lease, bound=wanted)
    now = bounds.target if wanted > bounds.target else bounds.source  # of the side that opens
    failover.prove_gap(work, opening=_opening(now, wanted))
    return work.flips.intend(work.lease, now, wanted)


def _forget(work: Work, intent: FlipRecord, ends: _Ends) -> None:
    """Nothing of it was done, and a late runner may do nothing of it afterwards."""
    before = work.bounds()
    guard.cancel(ends.closing, work.names, intent.flip_no)
    guard.cancel(ends.opening, work.names, intent.flip_no)
    if work.bounds() != before:  # it was faster
        finish_interrupted(work)
        return
    work.flips.record(work.lease, intent.flip_no, "cancelled")
    if before.source is not None and before.source != work.record.bound:
        work.store.set_routing(work.lease, bound=before.source)


def _settle(work: Work) -> None:
    """After an error: no key stays without owner if the shards answer again soon. The error itself goes on."""
    deadline = time.monotonic() + SETTLE_PATIENCE_S
    while True:
        try:
            finish_interrupted(work)
            return
        except LeaseLost:  # the next runner's
            return
        except (psycopg.Error, ForeshardError) as error:
            if isinstance(error, FlipFailed) and work.flips.unfinished(work.lease.migration) is None:
                return  # settled: the keys were taken back
            if time.monotonic() > deadline:
                logger.error("migration %s: a flip is not settled: %s", work.lease.migration, error)
                return
        time.sleep(0.5)


def _carry_out(work: Work, intent: FlipRecord, ends: _Ends, *, resumed: bool = False) -> FlipResult:
    """Close, wait for the marker, open. Nothing else happens inside the pause.

    ``resumed``: a runner that died had closed already, so the pause began about when the flip was intended.
    """
    started = time.perf_counter()
    marker, attempts = _close(work, intent, ends, resumed)
    failpoint.hit("flip_closed", work.state_dir)
    missing = _missing(work, ends, marker)
    if missing is not None and guard.cancel(ends.opening, work.names, intent.flip_no):
        _take_back(work, intent, ends, missing)
    pause_ms = (time.perf_counter() - started) * 1000  # where the marker opens; below it is a confirmation
    try:
        guard.open_(ends.opening, work.names, intent.flip_no, intent.to_bound)
    except psycopg.Error as error:
        if error.sqlstate == guard.STALE_FLIP:  # cancelled here by a runner that died before it took back
            _take_back(work, intent, ends, "the flip was cancelled")
        raise
    if not ends.alone:
        pause_ms = (time.perf_counter() - started) * 1000
    if resumed:
        pause_ms = work.flips.age_ms(work.lease.migration, intent.flip_no)
    _journal_opened(work, intent, pause_ms, attempts)
    return FlipResult(intent.flip_no, intent.from_bound, intent.to_bound, pause_ms, attempts)


def _missing(work: Work, ends: _Ends, marker: UUID) -> str | None:
    """What the open must wait for and did not get in time; None: it may open."""
    settings = work.settings
    late = standbys.await_flushed(ends.closing, ends.closing_standbys, settings.standby_timeout_s)
    if late:
        return f"standby {', '.join(late)} of the closing side did not confirm the close"
    if not ends.markers.applied(marker, settings.marker_timeout_s):
        return f"its marker was not applied in {settings.marker_timeout_s:g} s"
    late = standbys.await_flushed(ends.opening, ends.opening_standbys, settings.standby_timeout_s)
    return f"standby {', '.join(late)} of the opening side did not confirm the marker" if late else None


def _close(work: Work, intent: FlipRecord, ends: _Ends, resumed: bool) -> tuple[UUID, int]:
    """Close with short lock timeouts, since writers queue behind a waiting exclusive lock."""
    for attempt in range(1, CLOSE_ATTEMPTS + 1):
        marker = uuid4()
        try:
            guard.close(ends.closing, work.names, intent.flip_no, intent.to_bound, marker, opens=ends.alone)
        except errors.LockNotAvailable:
            time.sleep(random.uniform(0.5, 1.5) * work.settings.lock_timeout_ms / 1000)
            guard.wait_for_fence(ends.closing, work.settings.lock_timeout_ms, attempt + 1)
            continue
        return marker, attempt
    holders = guard.fence_holders(ends.closing, work.names, 0)
    if not resumed:  # else it is closed already, and stays intended until its keys have an owner
        work.flips.record(work.lease, intent.flip_no, "cancelled", attempts=CLOSE_ATTEMPTS)
    raise FlipFailed(
        f"The fence could not be had in {CLOSE_ATTEMPTS} attempts.",
        remedy="Long transactions hold it: end them, or try again when they are over.",
        holders=[{"pid": pid, "age_ms": age} for pid, age in holders],
    )


def _take_back(work: Work, intent: FlipRecord, ends: _Ends, why: str) -> NoReturn:
    """The opening side will never open this flip: the closing side takes its keys back.

    No marker is needed: the opening side never owned these keys.
    """
    back = work.flips.replace(work.lease, intent, intent.to_bound, intent.from_bound)
    _finish_take_back(work, back, replace(ends, closing=ends.opening, opening=ends.closing))
    raise FlipFailed(
        f"Flip {intent.flip_no} was taken back, {why}; ownership is as before.",
        remedy="Look at lag and errors of subscriptions and standbys (`foreshard migration show`).",
        missing=why,
    )


def _finish_take_back(work: Work, back: FlipRecord, ends: _Ends) -> None:
    """The keys go back to the side that closed last. A marker is not waited for: the other side never owned them."""
    guard.cancel(ends.closing, work.names, back.flip_no)
    other = guard.state(ends.closing, work.names)
    raising = back.to_bound > back.from_bound
    if other is not None and (other.bound < back.to_bound if raising else other.bound > back.to_bound):
        finish_interrupted(work)  # it had opened after all, before it was cancelled
        return
    try:
        guard.open_(ends.opening, work.names, back.flip_no, back.to_bound)
    except psycopg.Error as error:
        if error.sqlstate != guard.STALE_FLIP:
            raise
        # It was failed over, and settling that cancelled the flip back, too: the same under a new number.
        back = work.flips.replace(work.lease, back, back.from_bound, back.to_bound)
        guard.open_(ends.opening, work.names, back.flip_no, back.to_bound)
    _journal_opened(work, back, pause_ms=None, attempts=1)


def _journal_opened(work: Work, intent: FlipRecord, pause_ms: float | None, attempts: int) -> None:
    work.store.set_routing(work.lease, bound=intent.to_bound)
    work.flips.record(work.lease, intent.flip_no, "opened", pause_ms=pause_ms, attempts=attempts)


def _await_quiet(work: Work, ends: _Ends) -> None:
    """Wait for a good moment, but not for ever: a moment that is not ideal makes a longer pause, no error.

    Raises:
        FlipFailed: markers do not come through at all, or a standby is behind: closing now would only refuse writes.
    """
    deadline = time.monotonic() + QUIET_PATIENCE_S
    while time.monotonic() < deadline:
        rehearsed = guard.rehearse_close(ends.closing, work.names)
        fast = ends.markers.drain(work.settings.marker_timeout_s) < QUIET_MARKER_MS
        if rehearsed and fast and not guard.fence_holders(ends.closing, work.names, QUIET_HOLDER_MS):
            break
        time.sleep(0.02)
    for conn, expected in ((ends.closing, ends.closing_standbys), (ends.opening, ends.opening_standbys)):
        late = standbys.await_flushed(conn, expected, work.settings.standby_timeout_s)
        if late:
            raise FlipFailed(
                f"Standby {', '.join(late)} is behind or away: if it were promoted, a flip would be forgotten.",
                remedy="Let it catch up; or name the standbys that may be promoted in migration.standbys.",
                standbys=late,
            )


def _opening(from_bound: int, to_bound: int) -> Side:
    """The side that gains keys."""
    return Side.TARGET if to_bound > from_bound else Side.SOURCE


@contextmanager
def _ends(work: Work, intent: FlipRecord) -> Iterator[_Ends]:
    opening = _opening(intent.from_bound, intent.to_bound)
    with (
        work.connection(opening.other) as close_conn,
        work.connection(opening) as open_conn,
        work.marker_line(opening.other) as markers,
    ):
        guard.wait_for_fence(close_conn, work.settings.lock_timeout_ms, 1)
        yield _Ends(
            close_conn,
            open_conn,
            markers,
            failover.expected_standbys(work, opening.other, close_conn),
            failover.expected_standbys(work, opening, open_conn),
        )
