"""What is said of a fleet, from what was found on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from foreshard.adoption.changes import Topology, plan_adoption
from foreshard.adoption.facts import Finding, Lookup, ShardFacts
from foreshard.adoption.report import AdoptionReport, Verdict, make_report
from foreshard.adoption.summary import summarise, summarise_changes
from foreshard.postgres.hazards import Effect, Hazard
from foreshard.topology.bucketing import BucketingKind
from foreshard.topology.keys import Key
from tests.unit.adoption.fleets import described, keys_of, orders, shard, table

BUCKETS = tuple(f"tenant_{number}" for number in range(1, 13))
SORTED = tuple(sorted(BUCKETS))


def fleet(**more: object) -> list[ShardFacts]:
    """Twelve buckets on two shards; what is given goes to the first."""
    half = len(BUCKETS) // 2
    return [
        shard("shard-1", [orders(bucket) for bucket in BUCKETS[:half]], **more),
        shard("shard-2", [orders(bucket) for bucket in BUCKETS[half:]]),
    ]


def said(report: AdoptionReport, name: str) -> str:
    """All that is said of a table, in its first bucket."""
    found = next(one for one in report.buckets[0].tables if one.name == name)
    return " ".join(f"{one.subject} {one.why} {one.remedy}" for one in found.reasons)


def untrue(report: AdoptionReport) -> str:
    return " ".join(f"{one.subject} {one.why}. {one.remedy}" for one in report.untrue)


def test_a_fleet_in_order_is_movable() -> None:
    report = make_report(described(), fleet())
    assert report.all_movable
    assert report.findings == ()
    assert report.count(Verdict.MOVABLE) == 12
    assert [bucket.name for bucket in report.buckets] == list(SORTED)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (Effect.BLOCKS, Verdict.NOT),
        (Effect.WHOLE, Verdict.WHOLE),
        (Effect.WARNS, Verdict.MOVABLE),
    ],
)
def test_a_hazard_makes_the_verdict_of_its_table_and_bucket(effect: Effect, verdict: Verdict) -> None:
    hazard = Hazard("tenant_3", "orders", "tenant_3.orders", "is odd", "Mend it.", effect)
    report = make_report(described(), fleet(hazards=(hazard,)))
    bucket = next(one for one in report.buckets if one.name == "tenant_3")
    assert (bucket.verdict, bucket.tables[0].verdict) == (verdict, verdict)
    assert bucket.tables[0].reasons[0].why == "is odd"
    assert report.count(Verdict.MOVABLE) == (12 if effect is Effect.WARNS else 11)


def test_a_hazard_of_no_table_or_of_a_partition_finds_its_place() -> None:
    root = table("tenant_1", "orders", {"customer_id": "int8"}, ("customer_id",), partitions=("orders_1",))
    hazards = (
        Hazard("tenant_1", None, "sequence tenant_1.s", "cycles", "Widen it.", Effect.WHOLE),
        Hazard("tenant_1", "orders_1", "tenant_1.orders_1", "is unlogged", "Log it.", Effect.BLOCKS),
    )
    report = make_report(described(), [shard("shard-1", [root], hazards=hazards), shard("shard-2", [])])
    assert [one.subject for one in report.buckets[0].reasons] == ["sequence tenant_1.s"]
    assert "orders_1 is unlogged" in said(report, "orders")


def test_what_one_shard_lacks_holds_its_buckets() -> None:
    lacks = Finding("shard-1: wal_level", "is replica", "Set it.")
    report = make_report(described(), fleet(findings=(lacks,)))
    assert report.count(Verdict.NOT) == 6
    assert not report.untrue


# What is said of a table that is not described.


def with_table(name: str, columns: dict[str, str], key: tuple[str, ...] = (), **more: object) -> str:
    """What is said of that table beside `orders`."""
    extra = table("tenant_1", name, columns, key, **more)  # type: ignore[arg-type]
    report = make_report(described(), [shard("shard-1", [orders("tenant_1"), extra]), shard("shard-2", [])])
    assert report.buckets[0].verdict is Verdict.NOT
    return said(report, name)


def test_a_column_called_like_another_tables_is_suggested() -> None:
    words = with_table("items", {"customer_id": "int8", "item": "int8"}, ("customer_id", "item"))
    assert "customer_id (NOT NULL" not in words
    assert "customer_id (is NOT NULL, leads the primary key, distributes orders)" in words
    assert 'Add items = "customer_id" to [tables]' in words


def test_a_key_without_that_column_moves_only_as_a_whole() -> None:
    words = with_table("items", {"item": "int8", "customer_id": "int8"}, ("item",))
    assert "move only as a whole" in words


def test_a_table_without_primary_key_is_told_so() -> None:
    words = with_table("history", {"customer_id": "int8", "delta": "int8"}, nullable=("customer_id", "delta"))
    assert "customer_id (may be NULL, distributes orders)" in words
    assert "ALTER customer_id SET NOT NULL (the primary key that it lacks does that), then add" in words


def test_a_nullable_column_must_not_stay_so() -> None:
    words = with_table("notes", {"id": "int8", "customer_id": "int8"}, ("id",), nullable=("customer_id",))
    assert "ALTER customer_id SET NOT NULL, then add notes" in words


def test_a_reference_table_is_named_as_such() -> None:
    words = with_table("countries", {"code": "text", "name": "text"}, ("code",))
    assert "looks like a reference table" in words
    assert "customer_id" in words
    assert "code" not in words.split("looks like")[1].replace("countries", "")


def test_a_column_of_another_type_is_no_key() -> None:
    assert "reference table" in with_table("old", {"customer_id": "text"}, ("customer_id",))


# What is said of a described one.


@pytest.mark.parametrize(
    ("column", "kind", "nullable", "part"),
    [
        ("customer", "int8", (), "customer_id is no column of it; it has customer"),
        ("customer_id", "text", (), "customer_id is text, the fleet's keys are int8"),
        ("customer_id", "int8", ("customer_id",), "customer_id may be NULL"),
    ],
)
def test_a_wrong_distribution_column_is_one_clear_reason(
    column: str, kind: str, nullable: tuple[str, ...], part: str
) -> None:
    odd = table("tenant_1", "orders", {column: kind}, (column,), nullable=nullable)
    also = Hazard(
        "tenant_1", "orders", "tenant_1.orders.customer_id", "is not a plain NOT NULL column", "…", Effect.BLOCKS
    )  # fmt: skip
    report = make_report(described(), [shard("shard-1", [odd], hazards=(also,)), shard("shard-2", [])])
    assert len(report.buckets[0].tables[0].reasons) == 1
    assert part in said(report, "orders")


def test_a_table_that_a_bucket_lacks_holds_it() -> None:
    shards = [shard("shard-1", [orders("tenant_1"), table("tenant_2", "other", {"customer_id": "int8"})])]
    report = make_report(described(), [*shards, shard("shard-2", [])])
    assert [one.subject for one in report.buckets[1].reasons] == ["orders"]


# What makes a topology a lie.


def test_a_bucket_on_two_shards_is_a_lie() -> None:
    report = make_report(described(), [shard(name, [orders("tenant_1")]) for name in ("shard-1", "shard-2")])
    assert "bucket tenant_1 is on shard-1 and on shard-2" in untrue(report)


def test_a_bucket_that_is_being_moved_is_on_both_and_that_is_right() -> None:
    moving = {"moving": {"tenant_1": "foreshard_0a1b_7"}}
    report = make_report(
        described(), [shard(name, [orders("tenant_1")], **moving) for name in ("shard-1", "shard-2")]
    )
    assert not report.untrue
    assert report.buckets[0].reasons[0].why == "is being moved by foreshard_0a1b_7"


@pytest.mark.parametrize(
    ("shards", "part"),
    [
        ([shard("shard-1", []), shard("shard-2", [])], "no schema fits"),
        ([shard("shard-1", [orders("tenant_1")]), ShardFacts("shard-2", away="is down")], "shard-2 is down"),
        (
            [shard("shard-1", [orders("tenant_1")]), shard("shard-2", [], database=(1, 5))],
            "shard-2 is the same database as shard-1",
        ),
    ],
)
def test_a_shard_that_cannot_be_true_is_a_lie(shards: Sequence[ShardFacts], part: str) -> None:
    report = make_report(described(), shards)
    assert part in untrue(report)
    assert not report.all_movable


def test_a_named_bucket_that_is_nowhere_is_a_lie() -> None:
    description = described(names=('pattern = "tenant_%"', 'names = ["tenant_1", "tenant_99"]'))
    report = make_report(description, [shard("shard-1", [orders("tenant_1")]), shard("shard-2", [])])
    assert "bucket tenant_99 is named, but on no shard" in untrue(report)


# Keys.


def test_keys_in_the_bucket_of_their_hash_are_right() -> None:
    report = make_report(described(), fleet(keys=keys_of(SORTED)))
    assert not report.findings
    assert report.sampled == 400


def test_buckets_in_the_order_of_their_numbers_are_found_out() -> None:
    words = untrue(make_report(described(), fleet(keys=keys_of(BUCKETS))))
    assert "hashes to" in words
    assert "of 12" in words
    assert "names in that order (tenant_1, tenant_2, tenant_3, …)" in words


def test_keys_by_remainder_are_found_out() -> None:
    keys = {(BUCKETS[key % 12], "orders"): [key, key + 12] for key in range(12)}
    assert "key % 12" in untrue(make_report(described(), fleet(keys=keys)))


def test_keys_that_name_their_bucket_are_found_out() -> None:
    keys = {(f"tenant_{key}", "orders"): [key] for key in range(1, 13)}
    assert "named after it" in untrue(make_report(described(), fleet(keys=keys)))


def test_a_key_in_two_buckets_is_no_key() -> None:
    keys = {(bucket, "orders"): [1, 2, 3] for bucket in BUCKETS}
    assert "orders holds key 1 in tenant_1 and in tenant_2" in untrue(
        make_report(described(), fleet(keys=keys))
    )


def test_one_table_whose_keys_are_elsewhere_is_named() -> None:
    keys: dict[tuple[str, str], list[int]] = keys_of(SORTED)
    keys |= {("tenant_1", "items"): [1000 + at for at in range(50)]}
    words = untrue(make_report(described(), fleet(keys=keys)))
    assert "(all in items)" in words
    assert "is the column of items the distribution column?" in words


DIRECTORY = ('key_type = "int8"', 'key_type = "int8"\nbucketing = { kind = "directory", dsn = "host=d", '
             'table = "d.t", key_column = "k", bucket_column = "b" }')  # fmt: skip


@pytest.mark.parametrize(
    ("lookup", "part"),
    [
        (Lookup({1: "tenant_1", 2: "tenant_2"}, {"tenant_1": 1}), ""),
        (Lookup({1: "tenant_1"}, {"tenant_1": 1}), "key 2 of tenant_2.orders is unknown to the directory"),
        (Lookup({1: "tenant_1", 2: "tenant_1"}), "key 2 of tenant_2.orders is in tenant_1 by the directory"),
        (
            Lookup({1: "tenant_1", 2: "tenant_2"}, {"gone": 7, "": 1}),
            "sends 7 keys to bucket gone, which is not on any shard, and names 1 more",
        ),
        (Lookup(trouble=Finding("bucketing", "cannot be read", "…", untrue=True)), "cannot be read"),
    ],
)
def test_a_directory_is_held_against_the_shards(lookup: Lookup, part: str) -> None:
    keys: dict[tuple[str, str], list[Key]] = {("tenant_1", "orders"): [1], ("tenant_2", "orders"): [2]}
    description = described(kind=DIRECTORY)
    assert description.bucketing.kind is BucketingKind.DIRECTORY
    report = make_report(description, fleet(keys=keys), lookup)
    assert part in untrue(report)
    assert bool(part) == bool(report.untrue)


# What people are shown, and what is written.


def test_what_is_the_same_in_many_buckets_is_said_once() -> None:
    hazards = tuple(
        Hazard(
            bucket,
            "orders",
            f"unique index {bucket}.o on {bucket}.orders",
            "lacks it",
            "Add it.",
            Effect.WHOLE,
        )
        for bucket in BUCKETS[:6]
    )
    (summary,) = summarise(make_report(described(), fleet(hazards=hazards)))
    assert (summary.name, summary.buckets, summary.verdicts[Verdict.MOVABLE]) == ("orders", 12, 6)
    (line,) = summary.lines
    assert (line.text, len(line.buckets)) == ("unique index o on orders lacks it", 6)


def adopted() -> Topology:
    """What is in the control database once the fleet was written."""
    return plan_adoption(described(), make_report(described(), fleet()), None).topology


def test_a_fleet_that_is_written_changes_nothing_the_second_time() -> None:
    first = plan_adoption(described(), make_report(described(), fleet()), None)
    assert not first.refusals
    assert len(first.changes) > 12
    assert [change.what for change in summarise_changes(first.changes)][-2:] == ["6 buckets", "6 buckets"]
    again = plan_adoption(described(), make_report(described(), fleet()), first.topology)
    assert (again.changes, again.refusals) == ((), ())


def test_a_bucket_that_was_carried_elsewhere_by_hand_is_a_change() -> None:
    shards = fleet()
    moved = [
        shard("shard-1", shards[0].tables[1:]),
        shard("shard-2", [*shards[1].tables, orders("tenant_1")]),
    ]
    (change,) = plan_adoption(described(), make_report(described(), moved), adopted()).changes
    assert (change.was, change.becomes) == ("number 0 on shard-1", "number 0 on shard-2")


def test_capacity_that_was_set_by_hand_stays_where_the_file_has_none() -> None:
    silent = described(none=("capacity = { queries_per_s = 100 }", ""))
    adoption = plan_adoption(silent, make_report(silent, fleet()), adopted())
    assert adoption.changes == ()


def test_a_shadow_role_comes_and_goes_as_the_file_says() -> None:
    shadowed = described(role=("[buckets]", 'shadow_role = "reader"\n[buckets]'))
    (change,) = plan_adoption(shadowed, make_report(shadowed, fleet()), adopted()).changes
    assert (change.what, change.was, change.becomes) == ("shadow_role", "", "reader")
    with_role = replace(adopted(), shadow_role="reader")
    (change,) = plan_adoption(described(), make_report(described(), fleet()), with_role).changes
    assert (change.what, change.was, change.becomes) == ("shadow_role", "reader", "")
    moving = replace(with_role, live={"tenant_1": 7})
    (refusal,) = plan_adoption(described(), make_report(described(), fleet()), moving).refusals
    assert refusal.subject == "shadow_role"


def test_a_migration_keeps_its_bucket_and_the_description() -> None:
    moving = {"tenant_1": 7}
    present = adopted()
    live = Topology(
        present.key_type, present.tables, present.bucketing, present.shards, present.buckets, moving
    )
    assert not plan_adoption(described(), make_report(described(), fleet()), live).refusals
    more = described(more=('orders = "customer_id"', 'orders = "customer_id"\nitems = "customer_id"'))
    (refusal,) = plan_adoption(more, make_report(more, fleet()), live).refusals
    assert (refusal.subject, "migration 7" in refusal.why) == ("tables", True)
    without = [shard("shard-1", [orders(bucket) for bucket in BUCKETS[1:6]]), fleet()[1]]
    subjects = [
        one.subject for one in plan_adoption(described(), make_report(described(), without), live).refusals
    ]
    assert "bucket tenant_1" in subjects


def test_a_shard_with_buckets_that_the_file_leaves_out_is_refused() -> None:
    text = (
        '[shards.shard-2]\ndsn = "host=two dbname=app user=foreshard"',
        '[shards.shard-3]\ndsn = "host=three"',
    )
    other = described(shard=text)
    report = make_report(other, [fleet()[0], shard("shard-3", fleet()[1].tables)])
    (refusal,) = plan_adoption(other, report, adopted()).refusals
    assert "shard-2" in refusal.subject


def test_a_tenant_that_comes_renumbers_nobody() -> None:
    description = described(kind=DIRECTORY)
    before = plan_adoption(description, make_report(description, fleet(), Lookup()), None).topology
    shards = [shard("shard-1", [*fleet()[0].tables, orders("tenant_0")]), fleet()[1]]
    after = plan_adoption(description, make_report(description, shards, Lookup()), before)
    (change,) = after.changes
    assert (change.what, change.becomes) == ("bucket tenant_0", "number 12 on shard-1")
