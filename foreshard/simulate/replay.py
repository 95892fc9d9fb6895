"""One fleet under one contender, a step at a time: plans wait, run, load both ends, and change who owns what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from foreshard.planning.latency import stretch
from foreshard.planning.learnt_rates import LearntRates
from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import predict
from foreshard.planning.view import NEVER, BucketsView, FleetView, Floats, Indexes, ShardsView
from foreshard.simulate.contender import Contender
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.outcome import Moved, Outcome
from foreshard.simulate.outlook import Outlook
from foreshard.simulate.trace import Trace

Decide = Callable[[FleetView, DecisionPolicy], Decision]

RETURNS = timedelta(hours=48)
"""A bucket that comes back to a shard it left within this: the move was undone."""


@dataclass
class _Running:
    """A migration under way: both ends bear the copy until ``cutover_at``, and are taken until ``ends_at``."""

    plan: MigrationPlan
    position: int
    rows: Indexes
    source: int
    target: int
    started_at: datetime
    cutover_at: datetime
    ends_at: datetime
    cut_over: bool = False


class Replay:
    """The fleet's state. At each step: `complete`, perhaps `decided`, `start_due`, then `pass_step`."""

    def __init__(
        self, trace: Trace, fleet: Fleet, contender: Contender, policy: DecisionPolicy, first: int, until: int
    ) -> None:
        self.trace, self.fleet, self.contender = trace, fleet, contender
        self.policy = contender.policy(policy)
        self.placement: Indexes = fleet.placement.copy()
        self.first = first
        self.outlook: Outlook | None = None
        """The newest forecast."""
        self._utilisation = np.zeros((len(fleet.shards), until - first), np.float32)
        self._stretch = np.zeros(until - first)
        self._shard = {name: row for row, name in enumerate(fleet.shards)}
        self._bucket = {name: row for row, name in enumerate(trace.names)}
        self._running: list[_Running] = []
        self._waiting: dict[int, MigrationPlan] = {}
        self._unended: set[int] = set()
        """Positions, in the newest decision, of plans that others may wait for."""
        self._moved_at: dict[int, datetime] = {}
        self._left: dict[int, list[tuple[datetime, int]]] = {}
        self._moves: list[Moved] = []
        self._pause_s = 0.0
        self._expired = self._decisions = 0
        self._rows_of = np.arange(len(trace.names))
        self._here = self._assignment()

    def present(self, now: int, placement: Indexes | None = None) -> Floats:
        """The last step's load under the present placement, or another, (S, R); no copy is in it."""
        return self.fleet.load(self.trace, self.placement if placement is None else placement, now - 1, now)[
            ..., 0
        ]

    def above(self, now: int, threshold: float) -> bool:
        """Whether a shard that no migration keeps busy is above it."""
        load = self._here @ self.trace.load[:, :, now - 1]
        if self.fleet.own is not None:
            load = load + self.fleet.own[:, :, now - 1]
        free = np.ones(len(self.fleet.shards), bool)
        for one in self._running:
            free[[one.source, one.target]] = False
        return bool((free[:, None] & (load > threshold * self.fleet.capacity)).any())

    def complete(self, now: int) -> None:
        """Cut over and end what is due."""
        moment = self.trace.at(now)
        for one in self._running:
            if not one.cut_over and one.cutover_at <= moment:
                self._cut_over(one)
        for one in [one for one in self._running if one.ends_at <= moment]:
            self._running.remove(one)
            if one.position >= 0:
                self._unended.discard(one.position)

    def view(self, now: int, outlook: Outlook) -> FleetView:
        """What the planner sees. Buckets that have moved since the forecast was made count as moving."""
        trace, fleet = self.trace, self.fleet
        moment = trace.at(now)
        since = np.flatnonzero(self.placement != outlook.placement)
        moving = {trace.names[row]: fleet.shards[self.placement[row]] for row in since}
        moving |= {
            trace.names[row]: fleet.shards[one.target]
            for one in self._running
            for row in one.rows
            if not one.cut_over
        }
        rested = np.full(len(trace.names), NEVER)
        came_from = np.full(len(trace.names), -1, np.intp)
        for row, at in self._moved_at.items():
            rested[row] = (moment - at).total_seconds()
            came_from[row] = self._left[row][-1][1]
        return FleetView(
            moment,
            trace.at(outlook.made),
            outlook.step,
            trace.metrics,
            ShardsView(
                fleet.shards,
                fleet.capacity,
                self.present(now, outlook.placement),
                outlook.bands,
                outlook.peaks,
            ),
            BucketsView(
                trace.names,
                outlook.placement,
                trace.size_bytes,
                outlook.load,
                outlook.queries,
                rested,
                came_from,
                outlook.spread,
            ),
            moving=moving,
            busy={
                fleet.shards[shard]: one.ends_at
                for one in self._running
                for shard in (one.source, one.target)
            },
            timezone=trace.timezone,
        )

    def decide(self, now: int, outlook: Outlook, decide: Decide) -> None:
        """Decide anew: what waits and is not planned any more has expired; what is keeps its turn, at the new time."""
        plans = decide(self.view(now, outlook), self.policy).plans
        self._decisions += 1
        wanted = {_move(plan) for plan in plans}
        self._expired += sum(_move(plan) not in wanted for plan in self._waiting.values())
        self._waiting = dict(enumerate(plans))
        self._unended = set(self._waiting)
        for one in self._running:
            one.position = -1

    def start_due(self, now: int) -> None:
        """Start what may start, in the order of the decision."""
        moment = self.trace.at(now)
        taken = {shard for one in self._running for shard in (one.source, one.target)}
        for position, plan in sorted(self._waiting.items()):
            ends = {self._shard[plan.source], self._shard[plan.target]}
            waits = any(before in self._unended for before in plan.after)
            if waits or plan.timeline.not_before > moment or ends & taken:
                continue
            if len(self._running) >= self.policy.max_migrations:
                break
            del self._waiting[position]
            taken |= ends
            self._start(plan, position, moment)

    def pass_step(self, now: int) -> None:
        """Add up what the step's load is, copies included."""
        trace, fleet = self.trace, self.fleet
        load = self._here @ trace.load[:, :, now]
        if fleet.own is not None:
            load = load + fleet.own[:, :, now]
        used = (load / fleet.capacity).max(axis=1)
        begins, ends = trace.at(now), trace.at(now + 1)
        for one in self._running:
            overlap = (min(one.cutover_at, ends) - max(one.started_at, begins)) / trace.step
            used[[one.source, one.target]] += max(overlap, 0.0) * self.policy.copy_load
        self._utilisation[:, now - self.first] = used
        queries = self._here @ trace.queries[:, now]
        total = queries.sum()
        self._stretch[now - self.first] = (queries * stretch(used)).sum() / total if total > 0 else 1.0

    def outcome(self) -> Outcome:
        """What came of it."""
        return Outcome(
            fleet=self.fleet.name,
            contender=str(self.contender),
            threshold=self.contender.threshold,
            shards=self.fleet.shards,
            starts_at=self.trace.at(self.first),
            step=self.trace.step,
            utilisation=self._utilisation,
            stretch=self._stretch,
            moves=tuple(self._moves),
            pause_s=self._pause_s,
            decisions=self._decisions,
            expired=self._expired,
        )

    def _start(self, plan: MigrationPlan, position: int, moment: datetime) -> None:
        rows = np.array([self._bucket[name] for name in plan.buckets], np.intp)
        size = int(self.trace.size_bytes[rows].sum())
        takes = predict(plan.source, plan.target, size, LearntRates(), self.policy)
        cutover_at = moment + timedelta(seconds=takes.work_s - takes.soak_s)
        self._running.append(
            _Running(
                plan,
                position,
                rows,
                self._shard[plan.source],
                self._shard[plan.target],
                moment,
                cutover_at,
                moment + timedelta(seconds=takes.work_s),
            )
        )
        self._pause_s += takes.pause_ms / 1000

    def _cut_over(self, one: _Running) -> None:
        one.cut_over = True
        undone = 0
        for row in map(int, one.rows):
            left = self._left.setdefault(row, [])
            undone += any(shard == one.target and one.cutover_at - at <= RETURNS for at, shard in left)
            left.append((one.cutover_at, one.source))
            self._moved_at[row] = one.cutover_at
        self.placement[one.rows] = one.target
        self._here = self._assignment()
        self._moves.append(
            Moved(
                one.plan.source,
                one.plan.target,
                one.plan.buckets,
                int(self.trace.size_bytes[one.rows].sum()),
                one.started_at,
                one.cutover_at,
                undone,
            )
        )

    def _assignment(self) -> Floats:
        """Shape (S, B): 1 where a bucket lies."""
        here = np.zeros((len(self.fleet.shards), len(self.placement)))
        here[self.placement, self._rows_of] = 1.0
        return here


def _move(plan: MigrationPlan) -> tuple[str, str, frozenset[str]]:
    return plan.source, plan.target, frozenset(plan.buckets)
