"""The exact planner: the moves of fewest bytes for several sources and targets at once.

Which buckets leave a source, and where they go, are coupled by the targets' room only. So the fewest bytes that relieve
each source are found first, without regard to targets. If those buckets fit anywhere, nothing better exists; if not,
all is solved as one problem. Among the places of the buckets that go, those with the fewest pairs of source and target
are taken: each pair is a plan of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from foreshard.planning.cover import TOLERANCE, without_needless
from foreshard.planning.integer_program import Program
from foreshard.planning.loads import FleetLoads
from foreshard.planning.view import Floats, Indexes, Sizes

Mask = npt.NDArray[np.bool_]


def exact_moves(
    loads: FleetLoads,
    sizes: Sizes,
    movable: Mapping[int, Indexes],
    ceiling: float,
    room: Mapping[int, Floats],
    allowed: Callable[[int, int], bool],
    apart: Sequence[Indexes] = (),
    knee: float = np.inf,
) -> list[tuple[int, int]] | None:
    """The moves (bucket row, target row) of fewest bytes that relieve all sources; None without a solution in reach.

    ``movable``: source row -> rows of its buckets that may move. A source is relieved if its planned path is at most
    ``ceiling`` and its present load at most ``knee``, as shares of capacity. ``room``: target row -> what its planned
    path may still take, (R, T), shares of its capacity; its present load may come up to ``knee``. No source is a
    target. ``allowed(bucket, target)``: pins and the like. ``apart``: sets of bucket rows that must not share a target.
    ``sizes``: of all buckets, bytes.

    None of the moves can be left out. They come source by source, in order of relief per byte.
    """
    targets = _Targets(loads, knee, dict(room), allowed, apart)
    needy = [_source(loads, row, movable[row], sizes, ceiling, knee) for row in sorted(movable)]
    sources = [targets.reachable(source) for source in needy if len(source.need)]
    fewest = [_fewest(source) for source in sources]
    going = [source.only(rows) for source, rows in zip(sources, fewest, strict=True) if rows is not None]
    if len(going) < len(sources):
        return None
    places = _places(going, targets) if going else {}
    if places is None:
        some = _all_at_once(sources, targets)
        if some is None:
            return None
        going = [source.only(np.flatnonzero(np.isin(source.buckets, list(some)))) for source in sources]
        places = _places(going, targets) or some
    return [(row, places[row]) for source in going for row in _in_order(source)]


@dataclass(frozen=True, eq=False)
class _Source:
    """Those of its buckets that may move, and what it needs, over the cells in need: shares of its capacity."""

    buckets: Indexes
    parts: Floats
    need: Floats
    sizes: Floats

    def only(self, rows: Indexes) -> _Source:
        """With these of its buckets."""
        return replace(self, buckets=self.buckets[rows], parts=self.parts[rows], sizes=self.sizes[rows])

    @property
    def costs(self) -> Floats:
        """Bytes, in units near 1; and of equal bytes the fewer buckets."""
        mean = self.sizes.mean() if len(self.sizes) else 0.0
        costs: Floats = self.sizes / max(mean, 1.0) + 1e-6
        return costs

    @property
    def least(self) -> Floats:
        """Which part of each need must be met: all but what a sum's last digit may be wrong by."""
        least: Floats = 1.0 - TOLERANCE / self.need
        return least

    @property
    def shares(self) -> Floats:
        """Which part of each need each bucket meets, (n, cells). More than all is no use, and makes bounds weak."""
        shares: Floats = np.minimum(self.parts / self.need, 1.0)
        return shares


def _source(
    loads: FleetLoads, shard: int, buckets: Indexes, sizes: Sizes, ceiling: float, knee: float
) -> _Source:
    need = np.concatenate([(loads.path(shard) - ceiling).ravel(), loads.current[shard] - knee])
    cells = need > TOLERANCE
    parts = _cells(loads, buckets, shard)[:, cells]
    helps = (parts > 0).any(axis=1)
    return _Source(buckets[helps], parts[helps], need[cells], np.asarray(sizes[buckets[helps]], float))


def _cells(loads: FleetLoads, buckets: Indexes, shard: int) -> Floats:
    """The buckets' loads on the shard: at the planned level in each resource and step, then the present ones."""
    path = loads.of(buckets, shard)
    flat = path.reshape(len(buckets), path.shape[1] * path.shape[2])
    return np.concatenate([flat, loads.now_of(buckets, shard)], axis=1)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Buckets with each target that could take them: row in ``sources``, row in its buckets, bucket, target."""

    source: Indexes
    at: Indexes
    bucket: Indexes
    target: Indexes


@dataclass(frozen=True, eq=False)
class _Targets:
    loads: FleetLoads
    knee: float
    room: dict[int, Floats]
    allowed: Callable[[int, int], bool]
    apart: Sequence[Indexes]

    def pairs(self, sources: Sequence[_Source]) -> _Pairs:
        """All pairs that are possible if nothing else moves."""
        found = [
            (number, at, int(source.buckets[at]), target)
            for number, source in enumerate(sources)
            for target in sorted(self.room)
            for at in np.flatnonzero(self._takes(source.buckets, target)).tolist()
        ]
        columns = np.array(found, np.intp).reshape(-1, 4).T
        return _Pairs(*columns)

    def reachable(self, source: _Source) -> _Source:
        """Without the buckets that no target could take."""
        takes = [self._takes(source.buckets, target) for target in self.room]
        return (
            source.only(np.flatnonzero(np.any(takes, axis=0))) if takes else source.only(np.empty(0, np.intp))
        )

    def free(self, target: int) -> Floats:
        """What it may still take, in the cells of ``_cells``."""
        return np.concatenate([self.room[target].ravel(), self.knee - self.loads.current[target]])

    def limit(self, program: Program, pairs: _Pairs) -> None:
        """No target above its room, no two buckets together that are to be apart."""
        for target in np.unique(pairs.target):
            columns = np.flatnonzero(pairs.target == target)
            brings, free = _cells(self.loads, pairs.bucket[columns], target), self.free(target)
            tight = brings.sum(axis=0) > free + TOLERANCE
            scale = np.maximum(free[tight], TOLERANCE)
            program.at_most(columns, (brings[:, tight] / scale).T, 1.0 + TOLERANCE / scale)
            for rows in self.apart:
                together = columns[np.isin(pairs.bucket[columns], rows)]
                if len(together) > 1:
                    program.at_most(together, np.ones((1, len(together))), np.ones(1))

    def lets(self, buckets: Indexes, there: Sequence[int], target: int) -> bool:
        """Whether the target may get all of them beside those that come ``there`` already, its room not asked."""
        coming = np.array([*there, *buckets], np.intp)
        together = any(np.isin(coming, rows).sum() > 1 for rows in self.apart)
        return not together and bool(self._takes(buckets, target).all())

    def _takes(self, buckets: Indexes, target: int) -> Mask:
        may = np.array([self.allowed(int(row), target) for row in buckets], bool)
        for rows in self.apart:
            if (self.loads.shard[rows] == target).any():
                may &= ~np.isin(buckets, rows)
        brings, most = _cells(self.loads, buckets, target), self.free(target) + TOLERANCE
        fits: Mask = np.all(brings <= most, axis=1)
        return may & fits


def _fewest(source: _Source) -> Indexes | None:
    """Rows of the source's buckets: the fewest bytes that relieve it, wherever they may go."""
    if (source.parts.sum(axis=0) < source.need - TOLERANCE).any():
        return None
    program = Program(source.costs)
    program.at_least(np.arange(len(source.buckets)), source.shares.T, source.least)
    chosen = program.solve()
    return None if chosen is None else _needed(source, np.flatnonzero(chosen))


def _needed(source: _Source, rows: Indexes) -> Indexes:
    return without_needless(rows, source.parts, source.need, source.sizes)


def _places(going: Sequence[_Source], targets: _Targets) -> dict[int, int] | None:
    """A target for every bucket, with the fewest pairs of source and target; None if they do not fit."""
    whole = _one_target_each(going, targets)
    if whole is not None:
        return whole
    pairs = targets.pairs(going)
    ends, end = np.unique(np.stack([pairs.source, pairs.target]), axis=1, return_inverse=True)
    many = len(pairs.bucket)
    program = Program(np.concatenate([np.zeros(many), np.ones(ends.shape[1])]))
    for source in going:
        for bucket in source.buckets:
            columns = np.flatnonzero(pairs.bucket == bucket)
            if not len(columns):
                return None
            program.at_least(columns, np.ones((1, len(columns))), np.ones(1))
            program.at_most(columns, np.ones((1, len(columns))), np.ones(1))
    targets.limit(program, pairs)
    for column in range(many):
        program.at_most(np.array([column, many + end[column]]), np.array([[1.0, -1.0]]), np.zeros(1))
    chosen = program.solve()
    if chosen is None:
        return None
    return {int(pairs.bucket[at]): int(pairs.target[at]) for at in np.flatnonzero(chosen[:many])}


def _one_target_each(going: Sequence[_Source], targets: _Targets) -> dict[int, int] | None:
    """Each source's buckets together on the first target that has room for them; None if one finds no such target.

    There can be no fewer pairs, and in most fleets there is room enough: it saves solving the larger program.
    """
    free = {target: targets.free(target) for target in sorted(targets.room)}
    places: dict[int, int] = {}
    for source in going:
        for target in free:
            brings = _cells(targets.loads, source.buckets, target).sum(axis=0)
            there = [row for row, to in places.items() if to == target]
            if (brings <= free[target] + TOLERANCE).all() and targets.lets(source.buckets, there, target):
                free[target] = free[target] - brings
                places |= dict.fromkeys(source.buckets.tolist(), target)
                break
        else:
            return None
    return places


def _all_at_once(sources: Sequence[_Source], targets: _Targets) -> dict[int, int] | None:
    """Buckets to move with a target for each, of fewest bytes in all."""
    pairs = targets.pairs(sources)
    program = Program(np.array([sources[n].costs[at] for n, at in zip(pairs.source, pairs.at, strict=True)]))
    for number, source in enumerate(sources):
        columns = np.flatnonzero(pairs.source == number)
        program.at_least(columns, source.shares[pairs.at[columns]].T, source.least)
    for bucket in np.unique(pairs.bucket):
        columns = np.flatnonzero(pairs.bucket == bucket)
        if len(columns) > 1:
            program.at_most(columns, np.ones((1, len(columns))), np.ones(1))
    targets.limit(program, pairs)
    chosen = program.solve()
    if chosen is None:
        return None
    places = {int(pairs.bucket[at]): int(pairs.target[at]) for at in np.flatnonzero(chosen)}
    kept = [
        int(source.buckets[row])
        for source in sources
        for row in _needed(source, np.flatnonzero(np.isin(source.buckets, list(places))))
    ]
    return {bucket: places[bucket] for bucket in kept}


def _in_order(source: _Source) -> list[int]:
    relief = np.minimum(source.parts, source.need).sum(axis=1) / np.maximum(source.sizes, 1.0)
    ordered: list[int] = source.buckets[np.lexsort((source.buckets, -relief))].tolist()
    return ordered
