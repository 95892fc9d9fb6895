"""When somebody is killed, what is started again, and what must hold in the end. Told apart from which test does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foreshard.migration.lifecycle import Stage
from tests.integration.moving_fleet import Writing, assert_whole, writers
from tests.survival.installation import Installation, spent

VICTIMS = ("server", "serving", "both")

SLOW_BACKFILL = 400_000
"""Bytes per second: it takes some seconds, in the middle of which somebody is killed."""


PAUSE_S = 0.02
"""Of each writer after a write. As fast as they can they would take the processors from those who are killed."""


@contextmanager
def application(installed: Installation) -> Iterator[Writing]:
    """Some hundred writes a second."""
    with writers(installed.fleet, pause_s=PAUSE_S) as writing:
        yield writing


def kill(installed: Installation, victim: str) -> None:
    """kill -9, nobody is asked first."""
    if victim in ("server", "both"):
        installed.prefect.kill9()
    if victim in ("serving", "both"):
        installed.kill_serving()


def start_again(installed: Installation, victim: str) -> None:
    """As a supervisor does: the same commands, servers first."""
    if victim in ("server", "both"):
        installed.prefect.start()
    if victim in ("serving", "both") or not installed.is_serving():
        installed.start_serving()


def in_backfill(installed: Installation) -> bool:
    """Some rows are there, not all."""
    with installed.fleet.pair.target.connect() as conn:
        row = conn.execute(
            "SELECT coalesce(sum(pg_relation_size(c.oid)), 0) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND nspname = ANY (%s)",
            (list(installed.fleet.buckets),),
        ).fetchone()
    assert row is not None
    return installed.record.stage is Stage.BACKFILL and int(str(row[0])) > 0


def between_flips(installed: Installation) -> bool:
    """One canary step's flip is done, and the next has not begun."""
    record = installed.record
    return record.stage is Stage.WRITE_REDIRECT and record.bound > 0


def flip_is_closed(installed: Installation) -> bool:
    """The run has killed itself between close and open."""
    return spent(installed.fleet.state_dir, "flip_closed")


def waits(installed: Installation) -> bool:
    """A person is asked."""
    return installed.suspended() is not None


MOMENTS: dict[str, Callable[[Installation], bool]] = {
    "backfill": in_backfill,
    "between_flips": between_flips,
    "flip_closed": flip_is_closed,
    "approval": waits,
}


def strike(installed: Installation, writing: Writing, victim: str, moment: str) -> None:
    """Kill at that moment, start again, and give the janitor its turn."""
    installed.until(lambda: MOMENTS[moment](installed), moment, 180)
    kill(installed, victim)
    writing.wait_for_more(20)  # the application needs none of them
    start_again(installed, victim)
    attempts = installed.record.attempts
    if moment == "approval":  # a person's word is not the janitor's
        installed.janitor()
        record = installed.record
        assert (record.waiting_for, record.attempts) == ("approval", attempts)
    elif victim != "server" or moment == "flip_closed":  # else the run goes on by itself
        installed.until(lambda: len(installed.store.abandoned()) == 1, "the dead runner's lease expires")
        installed.janitor()
        installed.until(lambda: installed.record.attempts > attempts, "a new run")


def finish(installed: Installation, answers: int = 1) -> None:
    """The approval, and the janitor's turns, until the migration has ended."""

    def ended() -> bool:
        nonlocal answers
        if answers and waits(installed):
            installed.answer()
            answers -= 1
        if installed.store.abandoned():
            installed.janitor()
        record = installed.record
        assert record.failure is None, record.failure
        return record.stage is Stage.DONE

    installed.until(ended, "the migration's end", 240)


def assert_kept(installed: Installation, writing: Writing, approved: int = 1) -> None:
    """Every promise, from the outside."""
    fleet = installed.fleet
    writing.wait_for_more(20)
    writing.stop()
    assert_whole(fleet.checked(writing.ledger, fleet.pair.target), redirected=True)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.source) == [], "one owner, one copy"
    assert installed.store.confirmation(fleet.migration) is not None
    told = [(one.state, one.approver) for one in installed.approvals.of(fleet.migration)]
    assert [one for one in told if one[0] != "superseded"] == [("approved", "Ada")] * approved


def survive(installed: Installation, victim: str, *moments: str) -> None:
    """A whole migration under writers, with somebody killed at these moments of it."""
    installed.configure(
        backfill_max_bytes_per_s=SLOW_BACKFILL if "backfill" in moments else None, canary_soak_s=3.0
    )
    with application(installed) as writing:
        if "flip_closed" in moments:
            installed.arm("flip_closed")
        installed.start_serving()
        installed.start("migrate", migration_id=installed.fleet.migration)
        for moment in moments:
            strike(installed, writing, victim, moment)
        finish(installed)
        assert_kept(installed, writing)
