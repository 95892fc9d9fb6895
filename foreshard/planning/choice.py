"""What is to be moved, and for what: relief of shards at risk, then what people asked for, then balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from foreshard.planning.assess import Assessment, assess
from foreshard.planning.evacuation import find_evacuation, find_pinned
from foreshard.planning.exact import exact_moves
from foreshard.planning.fleet import Fleet
from foreshard.planning.plan import Purpose
from foreshard.planning.relief import Move, NoMove, find_relief
from foreshard.planning.risk import ShardRisk
from foreshard.planning.view import Floats


@dataclass(frozen=True, eq=False)
class Choice:
    """A move that will be a plan. ``movable``: how many buckets of the source might have moved; ``here``: how many lie
    there. ``relieved``: whether all moves of the source together bring it under its ceiling. ``strained``: there is no
    room to keep the ceiling; the probability with which either end may pass the policy's strained one.
    """

    move: Move
    purpose: Purpose
    assessment: Assessment
    movable: int
    here: int
    relieved: bool = True
    strained: float | None = None


@dataclass(eq=False)
class Choices:
    """What was chosen and what was not, and why. ``costs``: shard row -> cost of its relief, taken off its score.
    ``lacking``: rows of shards that the fleet has too little room for.
    """

    chosen: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    costs: dict[int, float] = field(default_factory=dict)
    lacking: list[int] = field(default_factory=list)


def choose(fleet: Fleet, risks: Sequence[ShardRisk]) -> Choices:
    """All moves, in the order of their choice; ``fleet`` has them done afterwards."""
    choices = Choices()
    threshold = fleet.policy.migration_threshold
    risky = [row for row, risk in enumerate(risks) if risk.score > threshold]
    risky.sort(key=lambda row: (-risks[row].score, risks[row].shard))
    targets = frozenset(row for row in range(len(risks)) if row not in set(risky) and not fleet.draining[row])
    _relieve(fleet, risky, risks, targets, choices)
    _fulfil(fleet, targets, choices)
    if fleet.policy.balance:
        _balance(fleet, frozenset(risky), targets, choices)
    for one, other, shard in fleet.clashing():
        choices.notes.append(f"{shard}: {one} and {other} lie there together, though they are to be apart")
    return choices


def _relieve(
    fleet: Fleet, risky: Sequence[int], risks: Sequence[ShardRisk], targets: frozenset[int], choices: Choices
) -> None:
    exact = _exactly(fleet, risky, targets)
    strained = [
        fleet.strained(probability)
        for probability in (fleet.policy.strained_probability, fleet.policy.strained_above)
    ]
    for source in risky:
        chosen = _relief(fleet, source, exact.get(source), targets)
        if _lacks_room(chosen):
            choices.lacking.append(source)
            chosen = _strained_relief(strained, source, chosen)
        if isinstance(chosen, NoMove):
            choices.notes.append(chosen.why)
            continue
        cost = sum(one.assessment.cost.total for one in chosen)
        choices.costs[source] = cost
        objection = _too_dear(fleet, risks[source].score - cost, cost) or _too_little(fleet, chosen)
        if objection:
            words = _in_words(fleet, [one.move for one in chosen])
            choices.notes.append(f"{fleet.name(source)}: moving {words} {objection}")
            continue
        _accept(fleet, chosen, choices)


def _relief(
    fleet: Fleet, source: int, exact: tuple[Move, ...] | None, targets: frozenset[int]
) -> list[Choice] | NoMove:
    found = exact or find_relief(fleet, source, targets, fleet.ceiling)
    return found if isinstance(found, NoMove) else _assessed(fleet, found, Purpose.RELIEF, fleet.ceiling)


def _lacks_room(chosen: list[Choice] | NoMove) -> bool:
    return chosen.lacks_room if isinstance(chosen, NoMove) else not chosen[0].relieved


def _strained_relief(
    strained: Sequence[Fleet], source: int, instead: list[Choice] | NoMove
) -> list[Choice] | NoMove:
    """To any shard, also one at risk, that stays under the strained ceiling; ``instead`` if that has no room either.

    Only where it presses: what helps a little would be done again with each forecast. By the first of the ``strained``
    standards that there is room for; by the last, and as near to it as there is room, only what likely exceeds.
    """
    least = strained[-1]
    if not least.presses(source, least.policy.strained_above):
        return NoMove(
            f"{least.name(source)}: the fleet has no room to keep its ceiling, and it exceeds "
            f"{least.policy.target_ceiling:.2f} of its capacity with a probability of "
            f"{least.policy.strained_above:.0%} at most: nothing is moved"
        )
    anywhere = frozenset(np.flatnonzero(~least.draining).tolist()) - {source}
    found: list[Choice] | NoMove = instead
    for fleet in strained:
        if fleet is least and not least.presses(source, 0.5):
            break  # other shards are not strained so much for what is less likely than not
        chosen = _relief(fleet, source, None, anywhere)
        if not isinstance(chosen, NoMove):
            found = [replace(one, strained=fleet.policy.relief_probability) for one in chosen]
            if chosen[0].relieved:
                break
    return found


def _exactly(fleet: Fleet, risky: Sequence[int], targets: frozenset[int]) -> Mapping[int, tuple[Move, ...]]:
    """The moves of least bytes for all shards at risk; nothing where that is not asked for, or has no solution."""
    policy = fleet.policy
    movable = {row: rows for row in risky if len(rows := fleet.movable(row))}
    pairs = sum(map(len, movable.values())) * len(targets)
    if policy.planner == "greedy" or not pairs or (policy.planner == "auto" and pairs > policy.exact_pairs):
        return {}
    room = {row: np.maximum(fleet.limit[:, None] - fleet.loads.path(row), 0.0) for row in sorted(targets)}
    may = {row: fleet.may_go(np.arange(len(fleet.view.buckets.names)), row) for row in room}
    found = exact_moves(
        fleet.loads,
        fleet.view.buckets.size_bytes,
        movable,
        policy.target_ceiling,
        room,
        lambda bucket, target: bool(may[target][bucket]),
        fleet.apart,
        policy.knee,
    )
    moves: dict[int, tuple[Move, ...]] = {}
    for source in movable:
        ends = sorted({target for bucket, target in found or () if fleet.loads.shard[bucket] == source})
        for target in ends:
            going = [one for one, to in found or () if to == target and fleet.loads.shard[one] == source]
            move = Move(source, target, np.array(going, np.intp), fleet.limit, exact=True)
            moves[source] = (*moves.get(source, ()), move)
    return moves


def _fulfil(fleet: Fleet, targets: frozenset[int], choices: Choices) -> None:
    """What people asked for: neither cool-down nor minimum gain stand against it."""
    for source in np.flatnonzero(fleet.draining):
        name = fleet.name(int(source))
        if not len(fleet.loads.on(int(source))):
            leaving = any(one.move.source == source for one in choices.chosen) or name in fleet.view.busy
            choices.notes.append(
                f"{name}: is drained; `foreshard shard remove {name}` takes it out of the fleet"
                if not leaving
                else f"{name}: is drained once its migrations have ended"
            )
            continue
        found = find_evacuation(fleet, int(source), targets)
        if isinstance(found, NoMove):
            choices.notes.append(found.why)
            if found.lacks_room:
                choices.lacking.append(int(source))
            continue
        chosen = _assessed(fleet, found, Purpose.DRAIN, fleet.ceiling)
        _accept(fleet, chosen, choices)
        if (left := len(fleet.here(int(source)))) > 0:
            choices.notes.append(f"{name}: is to be drained, but no shard has room for {left} of its buckets")
            choices.lacking.append(int(source))
    pinned, notes = find_pinned(fleet, targets)
    choices.notes.extend(notes)
    for move in pinned:
        _accept(fleet, _assessed(fleet, (move,), Purpose.PIN, fleet.ceiling), choices)


def _balance(fleet: Fleet, risky: frozenset[int], targets: frozenset[int], choices: Choices) -> None:
    """Shards above their bounded share give away what is beyond it, the fullest first."""
    over = {
        row: float((fleet.loads.path(row).max(axis=1) - fleet.limit).max())
        for row in range(len(fleet.view.shards.names))
        if row not in risky and not fleet.draining[row]
    }
    full = {row for row, excess in over.items() if excess > 0}
    for source in sorted(full, key=lambda row: (-over[row], row)):
        found = find_relief(fleet, source, targets - full, fleet.limit)
        if isinstance(found, NoMove):
            choices.notes.append(f"balance: {found.why}")
            continue
        chosen = _assessed(fleet, found, Purpose.BALANCE, fleet.limit)
        objection = _too_little(fleet, chosen)
        if objection:
            choices.notes.append(
                f"balance: {fleet.name(source)}: moving {_in_words(fleet, found)} {objection}"
            )
            continue
        _accept(fleet, chosen, choices)


def _assessed(fleet: Fleet, moves: tuple[Move, ...], purpose: Purpose, ceiling: Floats) -> list[Choice]:
    """The moves of one source one after the other, each on the fleet as the ones before leave it."""
    trial = fleet.trial()
    source = moves[0].source
    movable, here = len(fleet.movable(source)), len(fleet.here(source))
    found = []
    for move in moves:
        found.append((move, assess(trial, move, ceiling)))
        trial.loads.move(move.buckets, move.target)
    relieved = not (trial.need(source, ceiling) > 0).any()
    return [Choice(move, purpose, of, movable, here, relieved) for move, of in found]


def _accept(fleet: Fleet, chosen: Sequence[Choice], choices: Choices) -> None:
    for one in chosen:
        fleet.loads.move(one.move.buckets, one.move.target)
        choices.chosen.append(one)


def _too_dear(fleet: Fleet, score: float, cost: float) -> str | None:
    threshold = fleet.policy.migration_threshold
    if score > threshold:
        return None
    return f"would cost {cost:.4f}, which leaves a score of {score:.4f}, not above the threshold of {threshold:.4f}"


def _too_little(fleet: Fleet, chosen: Sequence[Choice]) -> str | None:
    """Neither the highest peak of the ends nor the higher of their risks falls enough."""
    last = chosen[-1].assessment
    peak = max(one.assessment.peak_before for one in chosen)
    peak -= max(last.peak_after, *(_at_target(one) for one in chosen))
    risk = chosen[0].assessment.risk_before - last.risk_after
    gain = max(peak, risk)
    if gain >= fleet.policy.minimum_gain:
        return None
    return (
        f"would lower the highest peak of its ends by {peak:.3f} and the higher risk by {risk:.3f}, less than the "
        f"minimum gain of {fleet.policy.minimum_gain:.3f}"
    )


def _at_target(choice: Choice) -> float:
    ends = choice.assessment.effects
    return max(one.peak_after for one in ends[len(ends) // 2 :])  # the source's effects come first


def _in_words(fleet: Fleet, moves: Sequence[Move]) -> str:
    return ", ".join(f"{', '.join(fleet.names(move.buckets))} to {fleet.name(move.target)}" for move in moves)
