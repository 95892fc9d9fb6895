"""Which shards have room for a load, and for how many of some buckets: asked of all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foreshard.planning.fleet import ROUNDING, Fleet
from foreshard.planning.view import Indexes


def what_fits(fleet: Fleet, target: int, buckets: Indexes) -> Indexes:
    """Those of the buckets, asked in their order, that the target can take together."""
    may, parts = fleet.may_go(buckets, target), fleet.parts(buckets, target)
    room = fleet.room(target) + ROUNDING
    chosen: list[int] = []
    for at in np.flatnonzero(may & (parts <= room).all(axis=1)):
        if (parts[at] <= room).all() and not fleet.together(buckets[np.array([*chosen, at])]):
            chosen.append(int(at))
            room = room - parts[at]
    return buckets[np.array(chosen, np.intp)]


class Fitting:
    """Buckets of one source and the targets that are asked, in their order, as the fleet's loads are now."""

    def __init__(self, fleet: Fleet, source: int, buckets: Indexes, targets: Sequence[int]) -> None:
        self._fleet, self._targets = fleet, list(targets)
        self._buckets = buckets
        self._single = fleet.could_take(
            fleet.parts(buckets, source), source, np.array(self._targets, np.intp)
        )

    def most(self, buckets: Indexes) -> tuple[int, Indexes]:
        """The first target with room for most of ``buckets``, and those; -1 if none has room for any.

        As many as it could take one by one are a bound of what it can take together: those of the highest bounds are
        asked first, and the others not at all.
        """
        bounds = self._single[np.isin(self._buckets, buckets)].sum(axis=0)
        best, fits = -1, buckets[:0]
        for at in np.argsort(-bounds, kind="stable"):
            if bounds[at] < max(len(fits), 1):
                break
            if bounds[at] == len(fits) and at > best:
                continue
            found = what_fits(self._fleet, self._targets[at], buckets)
            if len(found) > len(fits) or (len(found) == len(fits) and 0 <= at < best):
                best, fits = int(at), found
        return (self._targets[best] if len(fits) else -1), fits

    def leave_out(self, target: int) -> None:
        """Ask it no more."""
        self._single[:, self._targets.index(target)] = False
