"""Decisions and plans in a real control database: what is kept, what expires, whose turn it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from foreshard.control.approval_models import Approval
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration
from foreshard.control.migration_store import MigrationStore
from foreshard.control.models import Plan
from foreshard.control.plan_store import DecisionRecord, PlanStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import ForeshardError, InvalidInput, NotFound, OutOfDate, PlanTaken
from foreshard.planning.plan import Decision
from foreshard.planning.policy import DecisionPolicy
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.plans import NEW_RUN, decision, move

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = DecisionPolicy()
LIES = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}


@pytest.fixture
def store(control: ControlDatabase) -> PlanStore:
    """Of a fleet of five shards."""
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for name in "abcde":
        topology.put_shard(ShardRecord(name, "host=a", "host=a", {"cpu_cores": 4.0}))
    topology.put_buckets(tuple(LIES), Placement(dict(LIES)))
    return PlanStore(control)


@pytest.fixture
def forecast(control: ControlDatabase) -> Callable[[], int]:
    """Makes another forecast run."""

    def make() -> int:
        with control.transaction() as session:
            return int(session.execute(text(NEW_RUN), {"now": NOW}).scalar_one())

    return make


def states(store: PlanStore, numbers: Sequence[int]) -> list[str]:
    return [store.get(number).state for number in numbers]


def one_move(not_before: datetime = NOW) -> Decision:
    return decision(NOW, move("a", "b", "a1", not_before=not_before))


def test_a_second_decision_on_one_forecast_by_one_policy_is_the_first(
    store: PlanStore, forecast: Callable[[], int]
) -> None:
    run = forecast()
    first = store.save(one_move(), run, POLICY)
    again = store.save(decision(NOW, move("a", "c", "a2", not_before=NOW)), run, POLICY)
    assert first == again == store.made(run, POLICY) == store.newest_decision()
    assert (first.new, again.new) == (True, False)
    assert store.made(run, DecisionPolicy(knee=0.7)) is None


def test_other_parameters_make_another_decision_and_expire_what_it_does_not_hold(
    store: PlanStore, forecast: Callable[[], int]
) -> None:
    run = forecast()
    first = store.save(
        decision(NOW, move("a", "b", "a1", not_before=NOW), move("c", "d", "c1", not_before=NOW)), run, POLICY
    )
    other = DecisionPolicy(migration_threshold=0.5, apart=(frozenset({"a1", "b1"}),))
    second = store.save(one_move(NOW + HOUR), run, other)
    assert second.id != first.id
    assert second.plan_ids == first.plan_ids[:1], "the same move keeps its number"
    kept, gone = (store.get(number) for number in first.plan_ids)
    assert (kept.state, kept.decision_id, kept.plan.timeline.not_before) == (
        "proposed",
        second.id,
        NOW + HOUR,
    )
    assert store.decision(first.id).decision.plans[0].timeline.not_before == NOW, (
        "the first stays as it was made"
    )
    assert (gone.state, gone.closed_by) == ("expired", f"decision {second.id}")
    assert gone.reason == f"decision {second.id} on forecast {run} does not hold it"
    assert gone.closed_at is not None
    assert store.made(run, DecisionPolicy(**second.policy)) == second


def test_decisions_that_overlap_store_one(store: PlanStore, forecast: Callable[[], int]) -> None:
    run = forecast()
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda _: store.save(one_move(), run, POLICY), range(4)))
    assert len({one.id for one in saved}) == 1
    assert sum(one.new for one in saved) == 1
    assert len(store.all()) == 1


def test_what_was_decided_on_a_fleet_that_is_another_now_is_refused(
    control: ControlDatabase, store: PlanStore, forecast: Callable[[], int]
) -> None:
    """The slower of two decide runs, on other forecasts, or while a migration began."""
    basis = store.basis()
    first = store.save(one_move(), forecast(), POLICY, basis)
    later = forecast()
    with pytest.raises(OutOfDate):
        store.save(one_move(), later, POLICY, basis)
    basis = store.basis()
    MigrationStore(control).open(first.plan_ids[0])
    with pytest.raises(OutOfDate):
        store.save(decision(NOW), later, POLICY, basis)
    assert states(store, first.plan_ids) == ["migrating"]
    assert store.save(decision(NOW), later, POLICY, store.basis()).new
    assert states(store, first.plan_ids) == ["migrating"], "a migration does not expire"


def test_a_plan_that_expired_opens_no_migration(
    control: ControlDatabase, store: PlanStore, forecast: Callable[[], int]
) -> None:
    (plan,) = store.save(one_move(), forecast(), POLICY).plan_ids
    store.save(decision(NOW), forecast(), POLICY)
    with pytest.raises(ForeshardError, match=f"Plan {plan} is expired"):
        MigrationStore(control).open(plan)
    with pytest.raises(ForeshardError, match=f"Plan {plan} is expired by decision .* does not hold it"):
        store.claim_start(plan)


def test_closed_plans_stay_as_they_are(
    control: ControlDatabase, store: PlanStore, forecast: Callable[[], int]
) -> None:
    (plan,) = store.save(one_move(), forecast(), POLICY).plan_ids
    rejected = store.reject(plan, " ada ", "not on a Monday")
    assert (rejected.state, rejected.closed_by, rejected.reason) == ("rejected", "ada", "not on a Monday")
    for statement in ("UPDATE plans SET reason = ''", "DELETE FROM plans"):
        with pytest.raises(DBAPIError, match=f"plan {plan} is rejected"), control.transaction() as session:
            session.execute(text(statement))
    store.started(plan, 0, "run")


def test_who_rejects_is_named_and_what_runs_is_not_rejected(
    control: ControlDatabase, store: PlanStore, forecast: Callable[[], int]
) -> None:
    (plan,) = store.save(one_move(), forecast(), POLICY).plan_ids
    with pytest.raises(InvalidInput, match="by: names nobody"):
        store.reject(plan, " ")
    with pytest.raises(NotFound):
        store.reject(plan + 1, "ada")
    MigrationStore(control).open(plan)
    with pytest.raises(ForeshardError, match=f"Plan {plan} is migrating"):
        store.reject(plan, "ada")


@pytest.mark.parametrize("how", ["rejected", "reversed", "rejected at its approval", "aborted"])
def test_what_was_refused_is_not_planned_again_for_a_while(
    control: ControlDatabase, store: PlanStore, forecast: Callable[[], int], how: str
) -> None:
    plans = (
        move("a", "b", "a1", not_before=NOW),
        move("c", "a", "c1", not_before=NOW, after=(0,)),
        move("d", "e", "b1", not_before=NOW, after=(1,)),
    )
    first = store.save(decision(NOW, *plans), forecast(), POLICY)
    if how == "rejected":
        store.reject(first.plan_ids[0], "ada")
    else:
        number = MigrationStore(control).open(first.plan_ids[0])
        state = "reversed" if how == "reversed" else "aborted"
        with control.transaction() as session:
            session.execute(
                update(Migration)
                .where(Migration.id == number)
                .values(stage=state, finished_at=datetime.now(UTC))
            )
            session.execute(update(Plan).where(Plan.id == first.plan_ids[0]).values(state=state))
            if how == "rejected at its approval":
                session.add(
                    Approval(
                        migration_id=number, flip_no=1, state="rejected", approver="ada",
                        decided_at=datetime.now(UTC), expires_at=datetime.now(UTC) + timedelta(days=1),
                    )
                )  # fmt: skip
    after = store.save(decision(NOW, *plans), forecast(), POLICY)
    if how == "aborted":
        assert len(after.plan_ids) == 3, "what failed is tried again"
        return
    assert after.plan_ids == first.plan_ids[2:], "and without the second, for which it was to make room"
    assert states(store, first.plan_ids)[1:] == ["expired", "proposed"]
    assert store.get(after.plan_ids[0]).after == ()
    assert f"like plan {first.plan_ids[0]}, which was refused within the last 6 h" in after.decision.notes[0]
    assert "needs room on a that is not made" in after.decision.notes[1]
    again = store.save(decision(NOW, *plans), forecast(), DecisionPolicy(cooldown_s=0))
    assert len(again.plan_ids) == 3


def due(store: PlanStore, at: datetime, most: int = 9) -> list[int]:
    return [record.id for record in store.due(at, most)]


def test_plans_come_in_turn(control: ControlDatabase, store: PlanStore, forecast: Callable[[], int]) -> None:
    saved = store.save(
        decision(
            NOW,
            move("a", "b", "a1", not_before=NOW + HOUR),
            move("c", "d", "c1", not_before=NOW),
            move("a", "e", "a2", not_before=NOW, after=(0,)),
            move("b", "e", "b1", not_before=NOW),
        ),
        forecast(),
        POLICY,
    )
    first, second, third, fourth = saved.plan_ids
    assert store.get(third).after == (first,)
    assert due(store, NOW - HOUR) == []
    assert due(store, NOW) == [second, fourth]
    assert due(store, NOW, 1) == [second]
    assert due(store, NOW + HOUR) == [second, fourth], "the first would share shard b with the fourth"
    migrations = MigrationStore(control)
    migrations.open(second)
    assert due(store, NOW, 1) == []
    assert store.claim_start(fourth) == 1
    assert due(store, NOW + HOUR) == [], "it is no migration yet, but b is taken"
    assert [record.id for record in store.claimed()] == [fourth]
    store.reject(fourth, "ada")
    assert due(store, NOW + HOUR) == [first]
    lease = migrations.acquire(migrations.open(first), "test", None, 60)
    assert due(store, NOW + HOUR) == []
    for stage in ("prepare", "backfill", "catch_up", "verify", "read_shadow", "write_redirect", "cutover", "soak",
                  "finalise", "done"):  # fmt: skip
        migrations.go_to(lease, migrations.get(lease.migration).stage.__class__(stage))
    assert due(store, NOW + HOUR) == [third]


def test_a_plan_that_needs_room_waits_for_it_to_be_made(
    store: PlanStore, forecast: Callable[[], int]
) -> None:
    """Of two after a plan that was rejected: one that only shared its source, and one that needs its room."""
    saved = store.save(
        decision(
            NOW,
            move("a", "b", "a1", not_before=NOW),
            move("a", "c", "a2", not_before=NOW, after=(0,)),
            move("d", "a", "b1", not_before=NOW, after=(0,)),
        ),
        forecast(),
        POLICY,
    )
    store.reject(saved.plan_ids[0], "ada")
    assert due(store, NOW) == [saved.plan_ids[1]]


def test_of_two_that_start_a_plan_one_does(store: PlanStore, forecast: Callable[[], int]) -> None:
    (plan,) = store.save(one_move(), forecast(), POLICY).plan_ids

    def start(_: int) -> int | None:
        try:
            return store.claim_start(plan, seen=0)
        except PlanTaken:
            return None

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(start, range(4)), key=str) == [1, None, None, None]
    assert due(store, NOW) == []
    store.started(plan, 1, "a run")
    assert (store.get(plan).attempts, store.get(plan).flow_run_id) == (1, "a run")
    assert store.claim_start(plan) == 2, "a person may ask for it again"
    store.started(plan, 1, "a late word of the first")
    assert store.get(plan).flow_run_id is None


def test_what_a_decision_says_of_a_plan_that_waits(
    control: ControlDatabase, store: PlanStore, forecast: Callable[[], int]
) -> None:
    saved: DecisionRecord = store.save(one_move(), forecast(), POLICY)
    (plan,) = saved.plan_ids
    store.recheck(plan, saved.id, 0.25, supported=False)
    assert store.get(plan).recheck is None, "it does not wait: it is no migration"
    MigrationStore(control).open(plan)
    store.recheck(plan, saved.id, 0.25, supported=False)
    assert store.get(plan).recheck == {"decision_id": saved.id, "risk": 0.25, "supported": False}
