"""What the janitor does: about a migration whose run died, and about what ended ones left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.request_store import RESUME, RequestRecord, RequestStore
from foreshard.migration import unattended as unattended_migrations
from foreshard.migration.janitor import Action, Finding, clean
from foreshard.migration.requests import Ask
from foreshard.settings import Settings
from tasks import holding, runs

LEFT_TO_PEOPLE = frozenset({StateType.CANCELLED, StateType.CANCELLING})
ON_ITS_WAY = frozenset({StateType.SCHEDULED, StateType.PAUSED})

TAKES_LEASE_WITHIN = timedelta(minutes=2)
"""A run that calls itself running for so long without the lease is dead: to take it is what it does first."""

SUSPENDS_WITHIN = timedelta(minutes=2)
"""A run that let go of the lease to ask a person is suspended by then, and one that was answered has the lease."""

LONGEST_WAIT = timedelta(hours=1)


@task(name="find unattended migrations", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def unattended(control: ControlDatabase) -> list[MigrationRecord]:
    """Live migrations without a driver: a lease that ran out, or a wait for approval whose run is gone.

    One that a person paused is left alone; one that was resumed, or is to be given back, is not.
    """
    store, asked = MigrationStore(control), RequestStore(control).all_open()
    waiting = [record for record in store.live() if record.waiting_for is not None]
    return [one for one in (*store.abandoned(), *waiting) if not _held(one, asked.get(one.id))]


def _held(migration: MigrationRecord, asked: RequestRecord | None) -> bool:
    return asked is not None and asked.kind is Ask.PAUSE and migration.waiting_for == RESUME


@task(name="restart", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def restart(control: ControlDatabase, migration: MigrationRecord) -> bool:
    """Starts a new run unless one is on its way or a person stopped it; says whether it did.

    Whoever asked to give it back wants a run, whatever became of the one before. A pause that is over by a word from
    the shell, while Prefect was away, is over here too.

    The key of the run holds the number of attempts so far: two janitors start one run between them.
    A run that was started so and died before it could take the lease did not count as an attempt: the next one has a
    key of its own.
    """
    logger = get_run_logger()
    state = runs.state_of(migration.flow_run_id)
    asked = RequestStore(control).open(migration.id)
    resumed = migration.waiting_for == RESUME and asked is None
    if resumed and state is not None and holding.wake(migration, "the janitor"):
        logger.info("Migration %s was resumed; its run goes on.", migration.id)
        return False
    giving_back = asked is not None and asked.kind.gives_back
    if asked is not None and giving_back and not runs.is_over(asked.carrier):
        return False  # its own run does it
    waits = state is not None and state.type is StateType.PAUSED
    if state is not None and state.type in ON_ITS_WAY and not (giving_back and waits):
        return False
    if state is not None and state.type in LEFT_TO_PEOPLE and not giving_back and not resumed:
        logger.warning(
            "Migration %s stands at %s: its run was cancelled. Start migrate or reverse with its number.",
            migration.id,
            migration.stage,
        )
        return False
    if state is not None and migration.waiting_for is not None and _may_suspend(state, migration):
        return False
    if migration.flow_run_id is not None and state is not None:
        runs.mark_crashed(migration.flow_run_id, "Its lease ran out: the process is gone. A new run goes on.")
    request = "" if asked is None else f"-request-{asked.id}"
    key = f"migration-{migration.id}-attempt-{migration.attempts + 1}{request}"
    for turn in count(1):
        run = runs.start(
            "migrate",
            {"migration_id": migration.id},
            idempotency_key=key if turn == 1 else f"{key}-{turn}",
            run_name=run_name(migration.source, migration.target, len(migration.buckets)),
        )
        state = runs.state_of(str(run))
        if state is not None and state.type in LEFT_TO_PEOPLE and state.name != runs.DRIVEN_ELSEWHERE:
            logger.warning("Migration %s: its next run %s was cancelled.", migration.id, run)
            return False
        if state is None or not _is_dead(state):
            break
        if not _rested(state, turn):
            return False
        runs.mark_crashed(str(run), "It never took the lease: the process is gone. A new run goes on.")
    logger.warning("Migration %s had no driver at %s; run %s goes on.", migration.id, migration.stage, run)
    return True


def _may_suspend(state: State, migration: MigrationRecord) -> bool:
    """Whether a run that let go of the lease to ask a person, or was answered just now, may be alive still."""
    if state.type not in (StateType.RUNNING, StateType.PENDING):
        return False
    since = max(state.timestamp, migration.lease_expires_at or migration.created_at)
    return datetime.now(UTC) - since < SUSPENDS_WITHIN


def _is_dead(state: State) -> bool:
    """Of a run that has not taken the lease: whether it never will."""
    if state.is_final():
        return True
    since = datetime.now(UTC) - state.timestamp
    return state.type in (StateType.RUNNING, StateType.PENDING) and since >= TAKES_LEASE_WITHIN


def _rested(state: State, turn: int) -> bool:
    """What dies at its start will do so again: the next one comes at once, then after 2, 4, 8... minutes."""
    wait = timedelta(0) if turn == 1 else min(timedelta(minutes=2 ** min(turn - 1, 6)), LONGEST_WAIT)
    return datetime.now(UTC) - state.timestamp >= wait


@task(name="give owners", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def give_owners(control: ControlDatabase, settings: Settings) -> None:
    """Gives keys their owner again where a shard was failed over while a migration waits for a person."""
    for migration in unattended_migrations.give_owners(control, settings):
        get_run_logger().warning(
            "Migration %s: its keys have their owner again, after a failover or a flip that was cut off.",
            migration,
        )


@task(name="watch over", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def watch_over(control: ControlDatabase, settings: Settings) -> None:
    """Looks at streams and sequences of migrations that wait for a person: they do not wait."""
    for migration in unattended_migrations.keep_apart(control, settings):
        get_run_logger().info("Migration %s: its sequences jumped apart while nobody drives it.", migration)
    for migration in unattended_migrations.watch_room(control, settings):
        get_run_logger().warning(
            "Migration %s runs out of headroom while nobody drives it: it is aborted.", migration
        )


@task(name="clean up", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def clean_up(control: ControlDatabase, dry_run: bool) -> list[Finding]:
    """Removes what ended migrations left on any shard; a line for each thing."""
    logger = get_run_logger()
    findings = clean(control, dry_run=dry_run)
    for one in findings:
        whose = "" if one.migration is None else f" of migration {one.migration}"
        why = f": {one.why}" if one.why else ""
        log = logger.warning if one.action is Action.LEFT else logger.info
        log("%s: %s %s%s %s%s", one.shard, one.kind, one.name, whose, one.action, why)
    return findings


def run_name(source: str, target: str, buckets: int) -> str:
    """What a person recognises in a list of runs."""
    return f"migrate {source} -> {target}, {buckets} bucket{'' if buckets == 1 else 's'}"
