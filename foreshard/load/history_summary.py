"""What a history holds: its series, from when to when, in which steps, with how many gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from foreshard.load.sample import Sample

_STEPS_KEPT = 64
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class SeriesSummary:
    """One series of a file. ``step``: the most frequent distance of its samples; ``gaps``: distances that are longer.

    Where the file is not in the order of time, both are of those rows that are.
    """

    shard: str
    bucket: str | None
    metric: str
    samples: int
    first: datetime
    last: datetime
    step: timedelta | None
    gaps: int


class Summary:
    """Grows with every batch; its size is that of the number of series."""

    def __init__(self) -> None:
        self.samples = 0
        self.without_value = 0
        self._ids: dict[tuple[str, str, str], int] = {}
        self._counts = np.zeros(0, np.int64)
        self._first = np.zeros(0, np.int64)
        self._last = np.zeros(0, np.int64)
        self._steps: list[Counter[int]] = []

    def add(self, rows: pd.DataFrame) -> None:
        """Rows as `history_file` makes them: ``us`` (since 1970), shard, bucket, metric, value."""
        missing = rows["value"].isna()
        self.without_value += int(missing.sum())
        rows = rows[~missing]
        self.samples += len(rows)
        if rows.empty:
            return
        ids, times = self._number(rows), rows["us"].to_numpy()
        order = np.lexsort((times, ids))
        ids, times = ids[order], times[order]
        begins = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        ends = np.r_[begins[1:], len(ids)] - 1
        own = ids[begins]
        before = self._last[own]
        steps = np.diff(times, prepend=0)
        steps[begins] = np.where(self._counts[own] > 0, times[begins] - before, 0)
        self._count_steps(ids[steps > 0], steps[steps > 0])
        self._first[own] = np.where(
            self._counts[own] > 0, np.minimum(self._first[own], times[begins]), times[begins]
        )
        self._last[own] = np.where(self._counts[own] > 0, np.maximum(before, times[ends]), times[ends])
        self._counts[own] += ends - begins + 1

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """The same from samples."""
        times = [(one.ts - _EPOCH) // _MICROSECOND for one in samples]
        named = [(one.shard, one.bucket or "", one.metric, one.value) for one in samples]
        rows = pd.DataFrame(named, columns=["shard", "bucket", "metric", "value"])
        self.add(rows.assign(us=np.array(times, np.int64)))

    def series(self) -> Iterator[SeriesSummary]:
        """By shard, bucket, metric."""
        for (shard, bucket, metric), number in sorted(self._ids.items()):
            steps = self._steps[number]
            step = steps.most_common(1)[0][0] if steps else None
            gaps = sum(count for length, count in steps.items() if step is not None and length > 1.5 * step)
            yield SeriesSummary(
                shard,
                bucket or None,
                metric,
                int(self._counts[number]),
                _moment(self._first[number]),
                _moment(self._last[number]),
                None if step is None else timedelta(microseconds=step),
                gaps,
            )

    def _number(self, rows: pd.DataFrame) -> np.ndarray:
        """Each row's series, by number."""
        codes, keys = pd.MultiIndex.from_frame(rows[["shard", "bucket", "metric"]]).factorize()
        numbers = np.array([self._ids.setdefault(key, len(self._ids)) for key in keys])
        new = len(self._ids) - len(self._steps)
        if new:
            self._counts, self._first, self._last = (
                np.r_[old, np.zeros(new, np.int64)] for old in (self._counts, self._first, self._last)
            )
            self._steps.extend(Counter() for _ in range(new))
        found: np.ndarray = numbers[codes]
        return found

    def _count_steps(self, ids: np.ndarray, steps: np.ndarray) -> None:
        pairs, counts = np.unique(np.stack([ids, steps]), axis=1, return_counts=True)
        for number, step, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
            known = self._steps[number]
            if step in known or len(known) < _STEPS_KEPT:
                known[step] += count
            else:
                known[max(known)] += count  # among the odd ones


def _moment(us: int) -> datetime:
    return _EPOCH + int(us) * _MICROSECOND
