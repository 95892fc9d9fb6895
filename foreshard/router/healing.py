"""What refusals taught: bounds that are newer than the routing map's. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from foreshard.router.failures import Refusal
from foreshard.topology.routing_map import Redirection, RoutingMap


@dataclass(frozen=True)
class _Learnt:
    flip: int
    bound: int
    epoch: int
    source: str
    target: str
    buckets: frozenset[str]


class Healing:
    """Lays what refusals said over a routing map, until a map of a later epoch says it itself.

    Of two refusals of one migration the one with the higher flip number is true: while a flip is under way
    the closing side is already at the new bound and the opening side still at the old one. Not thread-safe:
    the router holds a lock.
    """

    def __init__(self) -> None:
        self._learnt: dict[int, _Learnt] = {}

    def learn(self, refusal: Refusal, epoch: int) -> bool:
        """Take in a refusal that met a map of ``epoch``; True if it told something new."""
        known = self._learnt.get(refusal.migration)
        if known is not None and refusal.flip < known.flip:
            return False
        source, target = (refusal.peer, refusal.shard) if refusal.is_target else (refusal.shard, refusal.peer)
        buckets = frozenset({refusal.bucket}) | (known.buckets if known else frozenset())
        learnt = _Learnt(refusal.flip, refusal.bound, epoch, source, target, buckets)
        self._learnt[refusal.migration] = learnt
        return learnt != known

    def applied_to(self, base: RoutingMap) -> RoutingMap:
        """``base`` with everything learnt since its epoch; what a later map has overtaken is forgotten.

        Forgetting too early costs one more refusal, never a wrong owner.
        """
        self._learnt = {number: it for number, it in self._learnt.items() if it.epoch >= base.epoch}
        if not self._learnt:
            return base
        redirections = {it.migration: it for it in base.redirections}
        for number, learnt in self._learnt.items():
            known = redirections.get(number)
            redirections[number] = (
                Redirection(number, learnt.buckets, learnt.source, learnt.target, learnt.bound, 0.0)
                if known is None
                else replace(known, bound=learnt.bound)
            )
        # A bucket goes through one migration after the other: of two that name it, the later is true.
        latest = {bucket: n for n in sorted(redirections) for bucket in redirections[n].buckets}
        kept = {n: frozenset(b for b in it.buckets if latest[b] == n) for n, it in redirections.items()}
        return replace(
            base,
            redirections=tuple(replace(it, buckets=kept[n]) for n, it in redirections.items() if kept[n]),
        )
