"""The load and the runs of a fleet over time, as migrations are put into it one by one: where one more may run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from foreshard.planning.draft import Draft
from foreshard.planning.loads import FleetLoads, planned_level
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView, Floats
from foreshard.planning.windows import Span

Mask = npt.NDArray[np.bool_]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Run:
    """A migration in its time: seconds since the view's ``now``, the margin included."""

    source: int
    target: int
    begin: float
    end: float

    @property
    def shards(self) -> frozenset[int]:
        """Both ends, by row."""
        return frozenset((self.source, self.target))


@dataclass(frozen=True, eq=False)
class Starts:
    """N moments at which a draft might start, and what stands for and against each.

    ``at`` (N,): seconds since ``now``, ascending; the last may lie behind the forecasts. ``peak`` (N,): the highest
    load of both ends while it runs, the copy's included, in units of capacity. The others, (N,), say that nothing
    stands against it: ``open``: windows and blackouts; ``free``: both shards, and the fleet's number of migrations;
    ``room``: the target stays within its capacity during the run, and with its buckets from then on; ``likely_room``:
    the same, but during the run by the median load only; ``bearable``: the source stays within its capacity during the
    run.
    """

    at: Floats
    peak: Floats
    open: Mask
    free: Mask
    room: Mask
    likely_room: Mask
    bearable: Mask


def length_s(draft: Draft) -> int:
    """How long its shards are kept for it: with margin, in whole seconds, so that sums of them are exact."""
    return math.ceil(draft.prediction.total_s)


class Slots:
    """What is under way and what was put in so far.

    Migrations take ``copy_load`` of both ends from start to end. A target has the load of its buckets from the start,
    but not on top of their copy, which ends as they arrive; a source loses it with the first step after the end. Load
    behind the forecasts is their highest.
    """

    def __init__(
        self, view: FleetView, loads: FleetLoads, policy: DecisionPolicy, spans: Sequence[Span]
    ) -> None:
        self._view, self._loads, self._policy = view, loads, policy
        self._first = (view.starts_at - view.now).total_seconds()
        self._step = view.step.total_seconds()
        self._opened = np.array([self.seconds(span.starts_at) for span in spans])
        self._closed = np.array([self.seconds(span.ends_at) for span in spans])
        self._likely = loads.at(planned_level(0.5, policy))
        self._paths: dict[int, Floats] = {}  # (R, T) of each shard with what was put in
        self._likely_paths: dict[int, Floats] = {}
        self._copies: dict[int, Floats] = {}  # (T,): the load of copies that were put in
        self._busy = {
            row: max(0.0, self.seconds(view.busy[name]))
            for row, name in enumerate(view.shards.names)
            if name in view.busy
        }
        self.runs: list[Run] = []

    def seconds(self, moment: datetime) -> float:
        """Since the view's ``now``."""
        return (moment - self._view.now).total_seconds()

    def moment(self, seconds: float) -> datetime:
        """So many seconds after the view's ``now``."""
        return self._view.now + timedelta(seconds=seconds)

    @property
    def horizon(self) -> float:
        """The end of the forecasts, seconds since ``now``."""
        return self.seconds(self._view.ends_at)

    def starts(self, draft: Draft) -> Starts:
        """Every moment from ``now`` to the end of the forecasts at which anything changes for the better."""
        length = length_s(draft)
        at = self._moments()
        first, until = self._steps(at, length)
        # The copy ends as the buckets arrive: the target has one or the other, in a step of both the larger.
        source = _busiest(self._path(draft.source)) + self._policy.copy_load
        copying = _busiest(self._path(draft.target)) + self._policy.copy_load
        given = _busiest(self._path(draft.target) + self._given(draft))
        during = np.maximum(np.maximum(source, copying), given)
        later = np.maximum.accumulate((given[:-1] + self._copy(draft.target))[::-1])[::-1]
        likely = _busiest(self._likely_path(draft.target)) + self._policy.copy_load
        full = 1.0 + _ROUNDING
        return Starts(
            at=at,
            peak=_highest(during, first, until),
            open=self._open(at, length),
            free=self._free(draft, at, length),
            room=(_highest(copying, first, until) <= full) & (later[first] <= full),
            likely_room=(_highest(likely, first, until) <= full) & (later[first] <= full),
            bearable=_highest(source, first, until) <= full,
        )

    def put(self, draft: Draft, begin: float) -> None:
        """Let ``draft`` run from ``begin``."""
        length = length_s(draft)
        run = Run(draft.source, draft.target, begin, begin + length)
        first, until = (int(one[0]) for one in self._steps(np.array([begin]), length))
        over = max(0, math.ceil((run.end - self._first) / self._step))
        for loads, path in ((self._loads, self._path), (self._likely, self._likely_path)):
            leaving = loads.of(draft.buckets, draft.source).sum(axis=0)[:, over:]
            given = loads.of(draft.buckets, draft.target).sum(axis=0)[:, first:]
            target, source = path(draft.target), path(draft.source)
            target[:, first:] += given
            source[:, over:] = np.maximum(source[:, over:] - leaving, 0.0)
        for shard in run.shards:
            self._copy(shard)[first:until] = self._policy.copy_load
        self.runs.append(run)

    def waits_for(self, draft: Draft, begin: float) -> str:
        """What a start at ``begin`` had to wait for, in words; '' if nothing ends just then."""
        names = self._view.shards.names
        for shard in (draft.source, draft.target):
            if self._busy.get(shard) == begin > 0:
                return f"{names[shard]} is busy until then"
        for run in self.runs:
            if run.end == begin:
                common = sorted(run.shards & {draft.source, draft.target})
                if common:
                    return f"{names[common[0]]} is in the plan {names[run.source]} -> {names[run.target]} until then"
        ends = [run.end for run in self.runs] + [self.seconds(end) for end in self._view.busy.values()]
        if begin > 0 and begin in ends:
            return f"no more than {self._policy.max_migrations} at a time, and one ends then"
        return ""

    def _path(self, shard: int) -> Floats:
        if shard not in self._paths:
            self._paths[shard] = self._loads.path(shard).astype(float)
        return self._paths[shard]

    def _likely_path(self, shard: int) -> Floats:
        if shard not in self._likely_paths:
            self._likely_paths[shard] = self._likely.path(shard).astype(float)
        return self._likely_paths[shard]

    def _copy(self, shard: int) -> Floats:
        if shard not in self._copies:
            self._copies[shard] = np.zeros(self._view.steps)
        return self._copies[shard]

    def _given(self, draft: Draft) -> Floats:
        given: Floats = self._loads.of(draft.buckets, draft.target).sum(axis=0)
        return given

    def _moments(self) -> Floats:
        """A peak falls only where a step is over, and what forbids a start ends at one of the others."""
        steps = self._first + self._step * np.arange(self._view.steps)
        ends = [run.end for run in self.runs] + [self.seconds(end) for end in self._view.busy.values()]
        at = np.unique(np.concatenate([[0.0], steps, self._opened, ends]))
        moments: Floats = at[(at >= 0) & (at < self.horizon)]
        return moments

    def _steps(self, at: Floats, length: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The first step of runs that start at ``at``, and the one after the last; T + 1 for what is not forecast."""
        steps = self._view.steps
        first = np.clip(np.floor((at - self._first) / self._step), 0, steps - 1).astype(np.intp)
        until = np.ceil((at + length - self._first) / self._step).astype(np.intp)
        return first, np.clip(until, first + 1, steps + 1)

    def _open(self, at: Floats, length: float) -> Mask:
        inside = (self._opened <= at[:, None]) & (at[:, None] + length <= self._closed)
        found: Mask = np.any(inside, axis=1)
        return found

    def _free(self, draft: Draft, at: Floats, length: float) -> Mask:
        ends = {draft.source, draft.target}
        taken = [(run.begin, run.end) for run in self.runs if run.shards & ends]
        taken += [(-np.inf, self._busy[shard]) for shard in ends & self._busy.keys()]
        taken += self._crowded()
        if not taken:
            return np.ones(len(at), bool)
        begin, end = np.array(taken).T
        found: Mask = np.all((at[:, None] + length <= begin) | (at[:, None] >= end), axis=1)
        return found

    def _crowded(self) -> list[tuple[float, float]]:
        """When as many migrations run as may. Those under way keep two shards busy each."""
        ending = sorted((max(0.0, self.seconds(end)) for end in self._view.busy.values()), reverse=True)[::2]
        events = [(-np.inf, 1)] * len(ending) + [(end, -1) for end in ending]
        events += [event for run in self.runs for event in ((run.begin, 1), (run.end, -1))]
        found, running, since = [], 0, None
        for moment, change in sorted(events):
            running += change
            if running >= self._policy.max_migrations and since is None:
                since = moment
            elif running < self._policy.max_migrations and since is not None:
                found.append((since, moment))
                since = None
        return found


def _busiest(path: Floats) -> Floats:
    """The busiest resource of each step, and behind the last one the highest of all: (T + 1,)."""
    busiest = path.max(axis=0)
    found: Floats = np.append(busiest, busiest.max())
    return found


def _highest(values: Floats, first: npt.NDArray[np.intp], until: npt.NDArray[np.intp]) -> Floats:
    """The highest value in each of the ranges ``first .. until - 1``, by maxima over powers of two."""
    table = [values]
    while 2 ** len(table) <= len(values):
        half = 2 ** (len(table) - 1)
        table.append(np.maximum(table[-1][:-half], table[-1][half:]))
    power = np.log2(until - first).astype(np.intp)
    found = np.empty(len(first))
    for level in np.unique(power):
        rows = np.flatnonzero(power == level)
        found[rows] = np.maximum(table[level][first[rows]], table[level][until[rows] - 2**level])
    return found
