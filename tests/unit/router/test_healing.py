from __future__ import annotations

from dataclasses import replace

from foreshard.router.failures import Refusal
from foreshard.router.healing import Healing
from foreshard.topology.keys import KeyType
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
