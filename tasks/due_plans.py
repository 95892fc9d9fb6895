"""Starts plans whose turn it is, and those again whose run died before their migration was opened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType

from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.plan_store import PlanRecord, PlanStore, run_key
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ForeshardError, InvalidInput, PlanTaken
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.windows import allowed, parse_windows
from foreshard.settings import Settings
from tasks import runs
from tasks.recovery import LEFT_TO_PEOPLE, LONGEST_WAIT, ON_ITS_WAY, run_name

OPENS_WITHIN = timedelta(minutes=5)
"""A run that calls itself running for so long without a migration is dead: its migration is what it opens first."""


@task(name="start due plans", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def start_due(control: ControlDatabase, settings: Settings) -> list[int]:
    """One `migrate` run for each plan whose turn it is; returns their numbers.

    Two that do this at once start one run between them: the attempt is taken in the control database first.
    """
    store = PlanStore(control)
    policy = _policy(store, settings)
    if policy is None or not _open_now(control, settings, policy):
        return []
    due = store.due(settings.clock.fleet_clock().now(), policy.max_migrations)
    return [record.id for record in due if _start_next(store, record) is not None]


@task(name="start dead plans again", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def start_dead_again(control: ControlDatabase, settings: Settings) -> list[int]:
    """A new run for each plan that has no migration and whose run failed, crashed or is gone; returns their numbers.

    The second time at once, then after 2, 4, 8... minutes, at most an hour. One that a person cancelled is left alone.
    """
    store, logger = PlanStore(control), get_run_logger()
    policy = _policy(store, settings)
    if policy is None or not _open_now(control, settings, policy):
        return []
    started = []
    for record in store.claimed():
        if (
            record.flow_run_id is None
        ):  # whoever took the attempt died before the run was noted, or notes it just now
            start_run(store, record, record.attempts)
            continue
        state = runs.state_of(record.flow_run_id)
        if state is not None and state.type in LEFT_TO_PEOPLE:
            logger.warning("Plan %d: its run was cancelled. Start it by `foreshard plan apply`.", record.id)
        elif _is_dead(control, record, state) and _rested(record):
            if state is not None:
                runs.mark_crashed(
                    record.flow_run_id, "It opened no migration: the process is gone. A new run does."
                )
            if _start_next(store, record) is not None:
                logger.warning("Plan %d had no run any more: attempt %d.", record.id, record.attempts + 1)
                started.append(record.id)
    return started


def _policy(store: PlanStore, settings: Settings) -> DecisionPolicy | None:
    """That of the newest decision, whose plans these are; None before the first."""
    try:
        return store.newest_policy()
    except InvalidInput:  # of a version with other fields
        return settings.decision


def _open_now(control: ControlDatabase, settings: Settings, policy: DecisionPolicy) -> bool:
    """Whether it is a maintenance window, and no blackout: one may have been declared since the plans were made."""
    now = settings.clock.fleet_clock().now()
    soon = now + timedelta(seconds=1)
    blackouts = CalendarStore(control).blackouts(now, soon)
    return bool(
        allowed(parse_windows(policy.windows), blackouts, now, soon, ZoneInfo(settings.clock.timezone))
    )


def _start_next(store: PlanStore, record: PlanRecord) -> UUID | None:
    try:
        attempt = store.claim_start(record.id, seen=record.attempts)
    except PlanTaken:
        return None
    except ForeshardError as gone:  # rejected, expired or migrating since it was looked at
        get_run_logger().info("%s", gone.message)
        return None
    return start_run(store, record, attempt)


def start_run(store: PlanStore, record: PlanRecord, attempt: int) -> UUID:
    """The attempt's run, made if it is not there."""
    plan = record.plan
    run = runs.start(
        "migrate",
        {"plan_id": record.id},
        idempotency_key=run_key(record.id, attempt),
        run_name=run_name(plan.source, plan.target, len(plan.buckets)),
    )
    store.started(record.id, attempt, str(run))
    return run


def _is_dead(control: ControlDatabase, record: PlanRecord, state: State | None) -> bool:
    if state is None or state.is_final():
        return True
    if state.type in ON_ITS_WAY or record.claimed_at is None:
        return False
    since = max(record.claimed_at, state.timestamp)
    if state.type not in (StateType.RUNNING, StateType.PENDING) or datetime.now(UTC) - since < OPENS_WITHIN:
        return False
    placed = TopologyStore(control).placement().of
    # It may wait until another migration has brought its buckets.
    return all(placed.get(bucket) == record.plan.source for bucket in record.plan.buckets)


def _rested(record: PlanRecord) -> bool:
    assert record.claimed_at is not None
    wait = (
        timedelta(0)
        if record.attempts == 1
        else min(timedelta(minutes=2 ** min(record.attempts - 1, 6)), LONGEST_WAIT)
    )
    return datetime.now(UTC) - record.claimed_at >= wait
