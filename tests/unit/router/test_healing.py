from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from foreshard.router.failures import Refusal
from foreshard.router.healing import Healing
from foreshard.topology.keys import SLOTS, KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Redirection, RoutingMap

BASE = RoutingMap(4, KeyType.TEXT, ("a", "b"), Placement({"a": "s1", "b": "s1"}))
MOVING = replace(BASE, redirections=(Redirection(7, frozenset({"a", "b"}), "s1", "s2", 100, 5.0),))


def refusal(bound: int, flip: int, *, is_target: bool = False, bucket: str = "a") -> Refusal:
    shard, peer = ("s2", "s1") if is_target else ("s1", "s2")
    return Refusal(7, bucket, shard, peer, is_target, bound, flip)


def test_a_known_migration_gets_the_new_bound_and_keeps_the_rest() -> None:
    healing = Healing()
    assert healing.learn(refusal(300, 3), MOVING.epoch)
    healed = healing.applied_to(MOVING).redirection_of("b")
    assert healed == replace(MOVING.redirections[0], bound=300)


def test_an_unknown_migration_is_learnt_from_either_side() -> None:
    for is_target in (False, True):
        healing = Healing()
        healing.learn(refusal(300, 3, is_target=is_target), BASE.epoch)
        healed = healing.applied_to(BASE)
        assert healed.redirections == (Redirection(7, frozenset({"a"}), "s1", "s2", 300, 0.0),)


def test_the_buckets_of_an_unknown_migration_add_up() -> None:
    healing = Healing()
    healing.learn(refusal(300, 3), BASE.epoch)
    healing.learn(refusal(300, 3, bucket="b"), BASE.epoch)
    assert healing.applied_to(BASE).redirections[0].buckets == {"a", "b"}


def test_the_side_that_has_not_opened_yet_does_not_undo_what_the_closing_side_said() -> None:
    healing = Healing()
    assert healing.learn(refusal(300, 3), MOVING.epoch)
    assert not healing.learn(refusal(100, 2, is_target=True), MOVING.epoch)
    assert not healing.learn(refusal(300, 3), MOVING.epoch)
    healed = healing.applied_to(MOVING).redirection_of("a")
    assert healed is not None
    assert healed.bound == 300


def test_a_map_of_a_later_epoch_wins() -> None:
    healing = Healing()
    healing.learn(refusal(300, 3), MOVING.epoch)
    later = replace(BASE, epoch=5)
    assert healing.applied_to(later) is later
    assert healing.applied_to(MOVING) is MOVING  # forgotten for good


def test_of_two_migrations_of_a_bucket_the_later_is_true() -> None:
    healing = Healing()
    healing.learn(Refusal(8, "a", "s2", "s3", False, 1024, 2), MOVING.epoch)
    healed = healing.applied_to(MOVING)
    assert healed.redirection_of("a") == Redirection(8, frozenset({"a"}), "s2", "s3", 1024, 0.0)
    assert healed.redirection_of("b") == replace(MOVING.redirections[0], buckets=frozenset({"b"}))
    healing.learn(Refusal(9, "b", "s2", "s3", False, 0, 1), MOVING.epoch)
    assert [each.migration for each in healing.applied_to(MOVING).redirections] == [8, 9]


FLIPS = st.lists(
    st.tuples(st.integers(0, SLOTS), st.sampled_from(["opened", "cancelled and set back"])),
    min_size=1,
    max_size=6,
)


@given(FLIPS, st.integers(0, SLOTS - 1), st.none() | st.integers(0, SLOTS), st.data())
def test_two_refusals_lead_from_any_map_to_the_owner(
    flips: list[tuple[int, str]], slot: int, mapped: int | None, data: st.DataObject
) -> None:
    """The router tries at random moments, also between a close and its open; then it must find the owner."""
    base = (
        BASE
        if mapped is None
        else replace(BASE, redirections=(replace(MOVING.redirections[0], bound=mapped),))
    )
    healing = Healing()
    bound = {"s1": 0, "s2": 0}
    seen = {"s1": 0, "s2": 0}

    def attempt() -> bool:
        redirection = healing.applied_to(base).redirection_of("a")
        shard = redirection.owner(slot) if redirection else "s1"
        if slot < bound[shard] if shard == "s2" else slot >= bound[shard]:
            return True
        refused = Refusal(
            7, "a", shard, "s1" if shard == "s2" else "s2", shard == "s2", bound[shard], seen[shard]
        )
        healing.learn(refused, base.epoch)
        return False

    number = 0
    for to, end in flips:
        number += 1
        before = bound["s1"]
        closing, opening = ("s1", "s2") if to >= before else ("s2", "s1")
        bound[closing], seen[closing] = to, number
        for _ in range(data.draw(st.integers(0, 3))):
            attempt()
        if end == "opened":
            bound[opening], seen[opening] = to, number
        else:
            seen[opening] = number  # it promises never to open this flip
            for _ in range(data.draw(st.integers(0, 3))):
                attempt()
            number += 1
            bound[closing], seen[closing] = before, number
        assert any(attempt() for _ in range(3))
