"""Approvals in the control database: which answer counts, once; who proves it; and a trail that only grows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from foreshard.control.approval_answers import Answer
from foreshard.control.approval_store import ApprovalRecord, ApprovalStore
from foreshard.control.approver_store import WRONG_TOKENS, ApproverStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_store import MigrationStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import AnswerRefused, ApprovalRequired, InvalidInput, NotFound
from foreshard.migration.approval_policy import Asking
from foreshard.migration.lifecycle import Stage
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.integration.moving_fleet import wait_until
from tests.plans import new_plan

BECAUSE = Asking(True, "cutover_only", "a test asks")
YES = Answer(True, "Ada", "looks right")


@pytest.fixture
def lease(control: ControlDatabase) -> Lease:
    """Of a migration of one bucket."""
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in ("one", "two"):
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", {"queries_per_s": 1.0}))
    topology.put_buckets(("b0", "b1"), Placement({"b0": "one", "b1": "one"}))
    return lease_of(control, "b0")


def lease_of(control: ControlDatabase, bucket: str) -> Lease:
    store = MigrationStore(control)
    return store.acquire(store.open(new_plan(control, "one", "two", [bucket])), "test", None, 600)


@pytest.fixture
def approvals(control: ControlDatabase) -> ApprovalStore:
    return ApprovalStore(control)


@pytest.fixture
def asked(approvals: ApprovalStore, lease: Lease, control: ControlDatabase) -> ApprovalRecord:
    """One attempt about flip 1, with evidence."""
    gate = FlipStore(control).record_gate(
        lease, "before_cutover", 1, passed=True, evaluated=1, expected=1, failed=0,
        evidence_sha256="e" * 64, verdict={}, ttl_s=60,
    )  # fmt: skip
    return approvals.ask(lease, 1, gate, BECAUSE, 60, "a-run")


def sql(control: ControlDatabase, statement: str) -> None:
    with control.transaction() as session:
        session.connection().exec_driver_sql(statement)


def let_expire(control: ControlDatabase) -> None:
    sql(control, "UPDATE approvals SET expires_at = clock_timestamp() WHERE state = 'pending'")


def trail(approvals: ApprovalStore) -> list[str]:
    return [event.event for event in approvals.events()]


def test_an_approval_is_given_once_by_somebody_for_one_flip(
    approvals: ApprovalStore, lease: Lease, asked: ApprovalRecord
) -> None:
    second = approvals.ask(lease, 1, None, BECAUSE, 60)
    with pytest.raises(ApprovalRequired, match="superseded"):
        approvals.decide(asked.id, YES)
    with pytest.raises(AnswerRefused, match="empty"):
        approvals.decide(second.id, replace(YES, approver="  "))
    with pytest.raises(ApprovalRequired):
        approvals.require(lease.migration, 1)
    approvals.decide(second.id, YES)
    with pytest.raises(ApprovalRequired, match="approved already by Ada"):
        approvals.decide(second.id, Answer(False, "Bob"))
    assert approvals.require(lease.migration, 1).approver == "Ada"
    with pytest.raises(ApprovalRequired):
        approvals.require(lease.migration, 2)
    with pytest.raises(NotFound):
        approvals.decide(99, YES)
    assert trail(approvals) == [
        "asked", "superseded", "asked", "refused", "refused", "approved", "refused",
    ]  # fmt: skip


def test_a_decision_is_kept_with_all_that_it_stood_on(
    approvals: ApprovalStore, control: ControlDatabase, asked: ApprovalRecord
) -> None:
    decided = approvals.decide(asked.id, YES)
    first, last = approvals.events(asked.migration)
    assert (first.event, first.why, first.way) == ("asked", "a test asks", "flow")
    assert (last.event, last.way, last.approver, last.comment, last.verified) == (
        "approved", "ui", "Ada", "looks right", False,
    )  # fmt: skip
    assert (last.attempt, last.migration, last.flip_no) == (asked.id, asked.migration, 1)
    assert (last.gate_run_id, last.evidence_sha256) == (asked.gate_run_id, "e" * 64)
    assert decided.decided_at is not None
    assert decided.decided_at <= last.at < decided.expires_at
    # The time is the control database's, whatever a client writes.
    with control.transaction() as session:
        found = session.connection().exec_driver_sql(
            "INSERT INTO approval_events (at, migration_id, flip_no, event, way)"
            " VALUES ('2000-01-01', 1, 7, 'not_asked', 'flow') RETURNING at > now() - interval '1 minute'"
        )
        assert found.scalar_one()


def test_nobody_is_asked_any_more_about_what_is_undone(
    approvals: ApprovalStore, control: ControlDatabase, lease: Lease, asked: ApprovalRecord
) -> None:
    MigrationStore(control).go_to(lease, Stage.ABORTING)
    assert approvals.of(asked.migration)[-1].state == "superseded"
    assert approvals.events(asked.migration)[-1].why == "the migration is undone"
    with pytest.raises(ApprovalRequired, match="superseded"):
        approvals.decide(asked.id, YES)


FORBIDDEN = (
    "UPDATE approval_events SET approver = 'Bob'",
    "UPDATE approval_events SET why = '' WHERE false",
    "DELETE FROM approval_events",
    "TRUNCATE approval_events",
    "TRUNCATE approvals CASCADE",
)


def test_the_trail_only_grows(
    approvals: ApprovalStore, control: ControlDatabase, asked: ApprovalRecord
) -> None:
    """As the operator's role, which owns the table."""
    approvals.decide(asked.id, YES)
    for statement in FORBIDDEN:
        with pytest.raises(DBAPIError, match="neither changed nor deleted"):
            sql(control, statement)
    assert trail(approvals) == ["asked", "approved"]


IMPOSSIBLE = (
    "UPDATE approvals SET state = 'approved'",  # by nobody
    "UPDATE approvals SET state = 'approved', approver = 'Ada', decided_at = expires_at",
    "UPDATE approvals SET decided_at = now()",  # and still pending
    "INSERT INTO approvals (migration_id, flip_no, state, approver, comment, expires_at)"
    " SELECT migration_id, flip_no, 'pending', '', '', now() FROM approvals",
)


def test_the_database_refuses_attempts_that_cannot_be(
    control: ControlDatabase, asked: ApprovalRecord
) -> None:
    del asked
    for statement in IMPOSSIBLE:
        with pytest.raises(IntegrityError):
            sql(control, statement)


def test_an_attempt_that_expired_opens_nothing(
    approvals: ApprovalStore, control: ControlDatabase, lease: Lease, asked: ApprovalRecord
) -> None:
    let_expire(control)
    with pytest.raises(ApprovalRequired, match="expired"):
        approvals.decide(asked.id, YES)
    with pytest.raises(ApprovalRequired):
        approvals.require(lease.migration, 1)
    assert trail(approvals) == ["asked", "expired", "refused"]
    assert approvals.expire_overdue("janitor") == []
    approvals.ask(lease, 1, None, BECAUSE, 60)
    let_expire(control)
    (late,) = approvals.expire_overdue("janitor")
    assert late.state == "expired"
    assert approvals.events()[-1].way == "janitor"
    again = approvals.ask(lease, 1, None, BECAUSE, 60)
    let_expire(control)
    approvals.ask(lease, 1, None, BECAUSE, 60)
    assert approvals.of(lease.migration)[-2].state == "expired", "not superseded: its time was over"
    assert again.state == "pending"


def test_of_two_answers_at_once_one_counts(approvals: ApprovalStore, lease: Lease) -> None:
    for others in (True, False):
        asked = approvals.ask(lease, 1, None, BECAUSE, 60)
        barrier = Barrier(2)

        def give(answer: Answer, attempt: int = asked.id, barrier: Barrier = barrier) -> str:
            barrier.wait()
            try:
                return approvals.decide(attempt, answer).state
            except ApprovalRequired:
                return "too late"

        answers = (YES, Answer(others, "Bob"))
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(give, answers))
        assert said.count("too late") == 1
        winner = answers[1 - said.index("too late")]
        assert approvals.of(asked.migration)[-1].approver == winner.approver
        assert trail(approvals)[-3:] == ["asked", "approved" if winner.approve else "rejected", "refused"]


def test_an_answer_waits_for_the_one_before_it(
    approvals: ApprovalStore, control: ControlDatabase, asked: ApprovalRecord
) -> None:
    """What the other transaction has not committed yet is waited for, not read past."""
    waiting = text("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')")

    def waits() -> bool:
        with control.transaction() as session:
            return bool(session.scalar(waiting))

    with ThreadPoolExecutor(1) as pool, control.transaction() as session:
        session.execute(
            text("UPDATE approvals SET state = 'rejected', approver = 'Bob', decided_at = clock_timestamp()")
        )
        late = pool.submit(approvals.decide, asked.id, YES)
        wait_until(waits, "the later answer to wait")
        session.commit()
        with pytest.raises(ApprovalRequired, match="rejected already by Bob"):
            late.result()
    assert approvals.of(asked.migration)[-1].approver == "Bob"


def test_a_token_proves_its_approver_and_nobody_else(
    approvals: ApprovalStore, control: ControlDatabase, asked: ApprovalRecord
) -> None:
    approvers = ApproverStore(control)
    _, adas = approvers.add("Ada")
    _, bobs = approvers.add("Bob")
    assert adas.startswith("fsa_")
    assert len(adas) > 40
    for name, token, why in (
        ("Ada", None, "without it"),
        ("Ada", "", "without it"),
        ("Ada", bobs, "not the token of Ada"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}da", None, "without it"),  # nobody passes as another
        (" ADA ", None, "without it"),
        ("A\N{ZERO WIDTH JOINER}da", None, "without it"),
        ("Carla", adas, "is the name right"),
    ):
        with pytest.raises(AnswerRefused, match=why) as refused:
            approvals.decide(asked.id, Answer(True, name, token=token))
        assert adas not in f"{refused.value} {refused.value.details}"
    approvers.revoke("bob")
    with pytest.raises(AnswerRefused, match="revoked"):
        approvals.decide(asked.id, Answer(True, "Bob", token=bobs))
    assert approvals.of(asked.migration)[0].state == "pending"
    decided = approvals.decide(asked.id, Answer(True, "ada", token=adas))
    assert (decided.approver, decided.verified) == ("Ada", True)
    assert approvals.events()[-1].verified
    assert not any(event.verified for event in approvals.events()[:-1])
    with control.transaction() as session:
        rows = session.connection().exec_driver_sql(
            "SELECT (SELECT array_agg(a::text) FROM approvers a), (SELECT array_agg(e::text) FROM approval_events e)"
        )
        assert adas not in str(rows.all())


def test_where_tokens_are_required_a_name_alone_is_nothing(
    approvals: ApprovalStore, control: ControlDatabase, asked: ApprovalRecord
) -> None:
    with pytest.raises(AnswerRefused, match="not an approver"):
        approvals.decide(asked.id, YES, "required")
    voucher, verified = approvals.voucher(asked.id, replace(YES, way="api"), "optional")
    assert not verified
    with pytest.raises(AnswerRefused, match="without a token"):  # the settings were changed meanwhile
        approvals.decide(asked.id, replace(YES, voucher=voucher), "required")
    _, token = ApproverStore(control).add("Ada")
    assert approvals.decide(asked.id, replace(YES, token=token), "required").verified


def test_wrong_tokens_are_bounded_for_each_approver_and_attempt(
    approvals: ApprovalStore, control: ControlDatabase, lease: Lease, asked: ApprovalRecord
) -> None:
    _, token = ApproverStore(control).add("Ada")
    _, other = ApproverStore(control).add("Bob")
    for _ in range(3):
        with pytest.raises(AnswerRefused, match="without it"):  # is no guess
            approvals.decide(asked.id, YES)
    for guess in range(WRONG_TOKENS):
        ways = (approvals.decide, approvals.voucher)
        with pytest.raises(AnswerRefused, match="not the token"):
            ways[guess % 2](asked.id, replace(YES, token=f"fsa_{guess}"))
    for given in (token, "fsa_another"):
        with pytest.raises(AnswerRefused, match="takes no answer of theirs"):
            approvals.decide(asked.id, replace(YES, token=given))
    assert trail(approvals).count("wrong_token") == WRONG_TOKENS
    assert approvals.decide(asked.id, Answer(False, "Bob", token=other)).state == "rejected"
    again = approvals.ask(lease, 1, None, BECAUSE, 60)
    assert approvals.decide(again.id, replace(YES, token=token)).verified


def test_a_voucher_counts_once_for_its_attempt_and_for_what_was_said(
    approvals: ApprovalStore, control: ControlDatabase, lease: Lease, asked: ApprovalRecord
) -> None:
    _, token = ApproverStore(control).add("Ada")
    others = approvals.ask(lease_of(control, "b1"), 1, None, BECAUSE, 60)
    of_another, _ = approvals.voucher(others.id, replace(YES, token=token, way="cli"))
    with pytest.raises(AnswerRefused, match=f"for attempt {others.id}"):
        approvals.decide(asked.id, replace(YES, voucher=of_another))
    with pytest.raises(AnswerRefused, match="never made"):
        approvals.decide(asked.id, replace(YES, voucher="fsv_made-up"))
    late, _ = approvals.voucher(asked.id, replace(YES, token=token, way="cli"))
    sql(control, "UPDATE approval_vouchers SET expires_at = clock_timestamp()")
    with pytest.raises(AnswerRefused, match="good until"):
        approvals.decide(asked.id, replace(YES, voucher=late))
    voucher, verified = approvals.voucher(asked.id, Answer(False, "Ada", "no", token=token, way="cli"))
    assert verified
    # It was made for a rejection: what travels beside it does not matter.
    decided = approvals.decide(asked.id, Answer(True, "Mallory", voucher=voucher))
    assert (decided.state, decided.approver, decided.comment, decided.way, decided.verified) == (
        "rejected", "Ada", "no", "cli", True,
    )  # fmt: skip
    again = approvals.ask(lease, 1, None, BECAUSE, 60)
    with pytest.raises(AnswerRefused, match=f"for attempt {asked.id}"):
        approvals.decide(again.id, replace(YES, voucher=voucher))
    sql(control, f"UPDATE approval_vouchers SET approval_id = {again.id}")
    with pytest.raises(AnswerRefused, match="used before"):
        approvals.decide(again.id, replace(YES, voucher=voucher))
    assert approvals.of(lease.migration)[-1].state == "pending"


def test_a_revoked_approver_takes_vouchers_along(
    approvals: ApprovalStore, control: ControlDatabase, asked: ApprovalRecord
) -> None:
    approvers = ApproverStore(control)
    _, token = approvers.add("Ada")
    voucher, _ = approvals.voucher(asked.id, replace(YES, token=token, way="cli"))
    approvers.revoke("Ada")
    with pytest.raises(AnswerRefused, match="revoked"):
        approvals.decide(asked.id, replace(YES, voucher=voucher))


def test_approvers_are_added_once_and_again_after_they_were_revoked(control: ControlDatabase) -> None:
    approvers = ApproverStore(control)
    record, first = approvers.add("  Ada   Lovelace ")
    assert record.name == "Ada Lovelace"
    with pytest.raises(InvalidInput, match="has a token already"):
        approvers.add("ADA LOVELACE")
    approvers.revoke("ada lovelace")
    with pytest.raises(NotFound):
        approvers.revoke("Ada Lovelace")
    again, second = approvers.add("Ada Lovelace")
    assert first != second
    assert [one.id for one in approvers.all()] == [record.id, again.id]
    assert approvers.needs_token("ada lovelace", "optional")
    assert not approvers.needs_token("Bob", "optional")


NAMES = [
    'O\'Brien "Bobby"; DROP TABLE approvals;--',
    "Ångström 東京 \N{MAN}\N{ZERO WIDTH JOINER}\N{ROCKET}",
    "x" * 200,
]


def test_names_may_be_of_any_kind(approvals: ApprovalStore, lease: Lease) -> None:
    for name in NAMES:
        asked = approvals.ask(lease, 1, None, BECAUSE, 60)
        assert approvals.decide(asked.id, replace(YES, approver=f" {name}\n")).approver == name
        assert approvals.events()[-1].approver == name
    asked = approvals.ask(lease, 1, None, BECAUSE, 60)
    decided = approvals.decide(asked.id, replace(YES, approver="Ada\n\n# Bob\tapproves"))
    assert decided.approver == "Ada # Bob approves", "in one line"


UNKEEPABLE = (
    ("x" * 201, ""),
    ("Ada\0", ""),
    ("Ada\x1b[31m", ""),
    ("\N{RIGHT-TO-LEFT OVERRIDE}adA", ""),
    ("Ada\ud800", ""),
    ("Ada", "x" * 2001),
    ("Ada", "a\0b"),
    ("Ada", "\ud800"),
)


def test_what_cannot_be_kept_is_refused(approvals: ApprovalStore, asked: ApprovalRecord) -> None:
    for name, comment in UNKEEPABLE:
        with pytest.raises(AnswerRefused):
            approvals.decide(asked.id, Answer(True, name, comment))
    assert trail(approvals) == ["asked", *["refused"] * len(UNKEEPABLE)]
    assert approvals.decide(asked.id, YES).state == "approved"


def test_a_token_in_the_wrong_place_is_not_kept(
    approvals: ApprovalStore, control: ControlDatabase, asked: ApprovalRecord
) -> None:
    _, token = ApproverStore(control).add("Ada")
    for wrong in (Answer(True, token), Answer(True, "Ada", f"my token: {token}")):
        with pytest.raises(AnswerRefused, match="holds a token") as refused:
            approvals.decide(asked.id, wrong)
        assert token not in f"{refused.value} {refused.value.details} {approvals.events()}"


def test_an_answer_and_a_runner_that_asks_anew_do_not_wait_for_each_other(
    approvals: ApprovalStore, control: ControlDatabase, lease: Lease, asked: ApprovalRecord
) -> None:
    """The runner has locked the migration and wants the attempt next; the answer locks them in the same order."""
    with ThreadPoolExecutor(1) as pool:
        with control.transaction() as session:
            locked_migration(session, lease)
            answered = pool.submit(approvals.decide, asked.id, YES)
            wait_until(lambda: waits_for_a_lock(control), "the answer to wait")
            connection = session.connection()
            connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
            connection.exec_driver_sql("SELECT FROM approvals FOR UPDATE")
        assert answered.result(timeout=20).state == "approved"


def waits_for_a_lock(control: ControlDatabase) -> bool:
    with control.transaction() as session:
        found = session.connection().exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(found.scalar_one())


def test_where_nobody_is_asked_it_is_kept_once_with_the_reason(
    approvals: ApprovalStore, lease: Lease
) -> None:
    why = Asking(False, "cutover_only", "the plan was made for a risk of 0.01")
    for _ in range(2):
        approvals.not_asked(lease, 3, why)
    (event,) = approvals.events(lease.migration)
    assert (event.event, event.attempt, event.flip_no, event.why) == ("not_asked", None, 3, why.why)
