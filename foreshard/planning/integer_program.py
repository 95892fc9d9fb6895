"""A program of yes-or-no variables, solved by HiGHS."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from foreshard.planning.view import Floats, Indexes

GAP = 1e-3
"""A solution costs at most this part more than the best one."""

_NODES = 2_000  # of the search tree: a limit of time would make the answer depend on the machine
_MARGIN = 1e-5  # the solver keeps to rows within 1e-6
_ROUNDING = 1e-12
_REDIRECTED = threading.Lock()  # two threads that redirect at once would restore each other's


@dataclass(eq=False)
class Program:
    """Minimise ``costs`` (n,) of the variables that are yes, subject to rows. Rows should be in units near 1."""

    costs: Floats
    _columns: list[Indexes] = field(default_factory=list)
    _values: list[Floats] = field(default_factory=list)
    _most: list[Floats] = field(default_factory=list)

    def at_most(self, columns: Indexes, values: Floats, limits: Floats) -> None:
        """Add rows (m, of these columns) with a limit each, (m,)."""
        self._columns.append(columns)
        self._values.append(values)
        self._most.append(limits)

    def at_least(self, columns: Indexes, values: Floats, limits: Floats) -> None:
        """Add rows (m, of these columns) with a least value each, (m,)."""
        self.at_most(columns, -values, -limits)

    def solve(self) -> npt.NDArray[np.bool_] | None:
        """Which variables are yes; None if there is no solution, or none was found within the limit of nodes.

        The same program always has the same solution.
        """
        if not len(self.costs):
            return None if any((most < -_ROUNDING).any() for most in self._most) else np.zeros(0, bool)
        # HiGHS rounds: it may break a row by a millionth. Where it did, it is asked to stay away from the edge.
        for margin in (0.0, _MARGIN):
            chosen = self._solve(margin)
            if chosen is None or self._holds(chosen):
                return chosen
        return None

    def _solve(self, margin: float) -> npt.NDArray[np.bool_] | None:
        from scipy.optimize import (
            Bounds,
            LinearConstraint,
            milp,
        )  # half a second that nothing else here needs
        from scipy.sparse import coo_array

        lengths = np.array([len(most) for most in self._most], np.intp)
        starts = np.cumsum(lengths) - lengths
        rows, columns = [], []
        for start, length, of in zip(starts, lengths, self._columns, strict=True):
            rows.append(np.repeat(np.arange(start, start + length), len(of)))
            columns.append(np.tile(of, length))
        matrix = coo_array(
            (
                np.concatenate([values.ravel() for values in self._values]),
                (np.concatenate(rows), np.concatenate(columns)),
            ),
            shape=(int(lengths.sum()), len(self.costs)),
        )
        most = np.concatenate(
            [
                np.where(
                    (values % 1 == 0).all(axis=1), limits, limits - margin
                )  # whole numbers hold as they are
                for values, limits in zip(self._values, self._most, strict=True)
            ]
        )
        with _output_to_stderr():
            solved = milp(
                self.costs,
                integrality=np.ones(len(self.costs)),
                bounds=Bounds(0, 1),
                constraints=LinearConstraint(matrix.tocsr(), -np.inf, most),
                options={"node_limit": _NODES, "mip_rel_gap": GAP},
            )
        if not solved.success:
            return None
        chosen: npt.NDArray[np.bool_] = solved.x > 0.5
        return chosen

    def _holds(self, chosen: npt.NDArray[np.bool_]) -> bool:
        return all(
            bool((values @ chosen[columns] <= most + _ROUNDING).all())
            for columns, values, most in zip(self._columns, self._values, self._most, strict=True)
        )


@contextmanager
def _output_to_stderr() -> Iterator[None]:
    """Descriptor 1 leads to standard error meanwhile.

    HiGHS prints a line to standard output where it repairs a solution, whatever ``disp`` says; that would spoil the
    JSON of a command.
    """
    with _REDIRECTED:
        kept = os.dup(1)
        try:
            os.dup2(2, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
