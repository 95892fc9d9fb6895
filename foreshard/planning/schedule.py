"""When each migration starts, and in which order, so that no shard is overloaded on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from foreshard.planning.draft import Draft
from foreshard.planning.loads import FleetLoads
from foreshard.planning.plan import Purpose
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.slots import Mask, Slots, Starts, length_s
from foreshard.planning.timeline import Timeline
from foreshard.planning.view import FleetView
from foreshard.planning.windows import Span, allowed, parse_windows
from foreshard.quantities import duration

A_WEEK = timedelta(days=8)
"""Every window of the week opens within it."""

AS_GOOD = 0.01
"""Of capacity: the earliest start that is no worse than the best by more is taken. Forecasts are not more exact, and a
plan without a deadline would be put off from trough to trough.
"""


@dataclass(frozen=True)
class Scheduled:
    """``after``: positions of the drafts that end before this one starts and share a shard with it."""

    timeline: Timeline
    after: tuple[int, ...]


@dataclass(frozen=True)
class Unscheduled:
    """No start was found; ``why`` in words."""

    why: str


@dataclass(frozen=True)
class _Chosen:
    begin: float
    why: str


def schedule(
    drafts: Sequence[Draft], view: FleetView, loads: FleetLoads, policy: DecisionPolicy
) -> tuple[Scheduled | Unscheduled, ...]:
    """A start for each draft, in their order, which is that of their turns. ``loads``: before any of them.

    While it runs a migration lies within a maintenance window and outside blackouts, its shards take part in no other,
    and the fleet runs ``max_migrations`` at most. Its target stays within its capacity, with the copy and the buckets,
    and afterwards too: one that needs the room of others comes after them. So does its source, unless it is what
    exceeds: then a copy on top is the lesser evil.

    With ``start`` "trough" a draft starts where the highest load of both ends is least but for `AS_GOOD`, before its
    deadline and early enough for later drafts with the same shards to keep theirs; if plans are late because others
    wait for a trough, none waits. Late ones start as soon as they may, and by the target's median load while they copy.
    """
    spans = _spans(drafts, view, policy)
    best = _Attempt(drafts, view, loads, policy, spans, policy.start)
    if policy.start == "trough" and best.missed:
        hurried = _Attempt(drafts, view, loads, policy, spans, "now")
        best = min(best, hurried, key=lambda attempt: attempt.missed)
    return best.result()


def _spans(drafts: Sequence[Draft], view: FleetView, policy: DecisionPolicy) -> tuple[Span, ...]:
    longest = max((length_s(draft) for draft in drafts), default=0)
    until = view.ends_at + timedelta(seconds=longest)
    return allowed(parse_windows(policy.windows), view.blackouts, view.now, until, view.timezone)


class _Attempt:
    """All drafts put into one time line, one after the other."""

    def __init__(
        self,
        drafts: Sequence[Draft],
        view: FleetView,
        loads: FleetLoads,
        policy: DecisionPolicy,
        spans: Sequence[Span],
        start: Literal["trough", "now"],
    ) -> None:
        self._drafts, self._view, self._policy, self._spans, self._start = drafts, view, policy, spans, start
        self._slots = Slots(view, loads, policy, spans)
        self._start_by = [_start_by(draft, view) for draft in drafts]
        self._latest = self._latest_starts()
        self._chosen: dict[int, _Chosen] = {}
        self._refused: dict[int, str] = {}
        self._choose_all()

    @property
    def missed(self) -> int:
        """How many drafts start late, or not at all."""
        late = sum(one.begin > self._deadline(number) for number, one in self._chosen.items())
        return late + len(self._drafts) - len(self._chosen)

    def result(self) -> tuple[Scheduled | Unscheduled, ...]:
        """In the drafts' order."""
        return tuple(
            self._scheduled(number) if number in self._chosen else Unscheduled(self._refused[number])
            for number in range(len(self._drafts))
        )

    def _deadline(self, number: int) -> float:
        return self._slots.seconds(self._start_by[number])

    def _latest_starts(self) -> list[float]:
        """Deadlines that leave time for the later drafts with the same shards, one after the other."""
        latest = [self._deadline(number) for number in range(len(self._drafts))]
        for number in reversed(range(len(self._drafts))):
            draft = self._drafts[number]
            for other in range(number + 1, len(self._drafts)):
                if _share(draft, self._drafts[other]):
                    latest[number] = min(latest[number], latest[other] - length_s(draft))
        return latest

    def _choose_all(self) -> None:
        """Turn by turn; who needs room that another draft still has to make waits for it, as long as any does."""
        pending, wait = list(range(len(self._drafts))), True
        while pending:
            left = []
            for number in pending:
                starts = self._slots.starts(self._drafts[number])
                others = [other for other in pending if other != number and other not in self._chosen]
                if wait and self._needs_room(number, starts, others):
                    left.append(number)
                    continue
                chosen = self._choose(number, starts)
                if chosen is None:
                    left.append(number)
                else:
                    self._chosen[number] = chosen
                    self._slots.put(self._drafts[number], chosen.begin)
            if len(left) == len(pending):
                if not wait:
                    break
                wait = False
            else:
                wait = True
            pending = left
        for number in pending:
            self._refused[number] = self._refusal(number, self._slots.starts(self._drafts[number]))

    def _needs_room(self, number: int, starts: Starts, others: Sequence[int]) -> bool:
        """Whether it would start earlier, or not too late, if what is to leave its target had left."""
        makers = [other for other in others if self._drafts[other].source == self._drafts[number].target]
        if not makers:
            return False
        possible = starts.open & starts.free
        if (possible & starts.room & (starts.at <= self._deadline(number))).any():
            return False
        if not possible.any() or (possible & starts.room)[np.argmax(possible)]:
            return False
        for other in makers:
            latest = self._latest[number] - length_s(self._drafts[other])
            self._latest[other] = min(self._latest[other], latest)
        return True

    def _choose(self, number: int, starts: Starts) -> _Chosen | None:
        draft = self._drafts[number]
        fit = starts.open & starts.free & starts.room
        in_time = starts.at <= self._deadline(number)
        fair = fit & starts.bearable
        spared = (fair & in_time).any() or not _urgent(draft)
        candidates = in_time & (fair if spared else fit)
        if candidates.any():
            return self._in_time(number, starts, candidates)
        # What is late does not wait for an hour in which its target could bear the copy whatever comes.
        fit = fit | starts.open & starts.free & starts.likely_room
        if not _urgent(draft) or not fit.any():
            return None
        row = int(np.argmax(fit))
        why = f"late: {self._why_late(number)}"
        delay = self._delay(number, starts, row)
        return _Chosen(float(starts.at[row]), f"{why}; {delay}" if delay else f"{why}; at once")

    def _in_time(self, number: int, starts: Starts, candidates: Mask) -> _Chosen:
        early = candidates & (starts.at <= self._latest[number])
        if self._start == "now" or not early.any():
            row = int(np.argmax(candidates))
            hurry = "at once" if starts.at[row] == 0 else self._delay(number, starts, row)
            if self._start == "now" != self._policy.start:
                hurry += ": were troughs waited for, plans would be late"
            return _Chosen(float(starts.at[row]), hurry)
        peaks = np.where(early, starts.peak, np.inf)
        row = int(np.argmax(peaks <= peaks.min() + AS_GOOD))
        trough = f"trough: both ends at {starts.peak[row]:.2f} at most"
        first = int(np.argmax(candidates))
        delay = self._delay(number, starts, row) if row == first else ""
        if starts.peak[row] > 1.0:
            trough = (
                f"{self._view.shards.names[self._drafts[number].source]} has no trough before the deadline in which a "
                f"copy fits: {starts.peak[row]:.2f} of capacity at most"
            )
        return _Chosen(float(starts.at[row]), f"{trough}; {delay}" if delay else trough)

    def _delay(self, number: int, starts: Starts, row: int) -> str:
        """What set that moment, if it is later than now."""
        begin = float(starts.at[row])
        if begin == 0:
            return ""
        waited = self._slots.waits_for(self._drafts[number], begin)
        if waited and not starts.free[row - 1]:
            return waited
        opened = next((one.opened for one in self._spans if self._slots.seconds(one.starts_at) == begin), "")
        if opened:
            return opened
        names, draft = self._view.shards.names, self._drafts[number]
        if not starts.room[row - 1]:
            return f"{names[draft.target]} has room from then on"
        return waited or f"{names[draft.source]} can bear the copy from then on"

    def _why_late(self, number: int) -> str:
        draft, by = self._drafts[number], self._start_by[number]
        source = self._view.shards.names[draft.source]
        if draft.excess_at is None:
            return f"{source} is above the knee now"
        if by < self._view.now:
            return f"even a start now ends after {source} exceeds its capacity"
        return f"no start before {_clock(by)} was possible"

    def _refusal(self, number: int, starts: Starts) -> str:
        draft = self._drafts[number]
        names = self._view.shards.names
        length = duration(length_s(draft))
        if not starts.open.any():
            return self._no_window(length_s(draft))
        if not (starts.open & starts.free).any():
            return (
                f"{names[draft.source]} or {names[draft.target]} is busy, or {self._policy.max_migrations} migrations "
                f"run already, whenever the {length} that it takes would be allowed before {_clock(self._view.ends_at)}"
            )
        if not (starts.open & starts.free & starts.room).any():
            makers = [one for one in self._drafts if one.source == draft.target and one is not draft]
            waits = ", and those that would make room on it cannot go first" if makers else ""
            return f"{names[draft.target]} has at no time room for the buckets and their copy{waits}"
        return f"{names[draft.source]} has at no time room for the load of the copy"

    def _no_window(self, length: int) -> str:
        view = self._view
        windows = parse_windows(self._policy.windows)
        week = allowed(windows, view.blackouts, view.now, view.now + A_WEEK, view.timezone)
        longest = max((span.length.total_seconds() for span in week), default=0.0)
        listed = ", ".join(self._policy.windows)
        if longest < length and windows.windows:
            return (
                f"it takes {duration(length)}, and the longest time in the windows ({listed}) and outside blackouts "
                f"has {duration(longest)}: move fewer buckets or widen a window"
            )
        fitting = [span for span in week if span.length.total_seconds() >= length]
        opens = f"; the next time it may is {_clock(fitting[0].starts_at)}" if fitting else ""
        what = f"the windows ({listed}) and blackouts leave" if windows.windows else "blackouts leave"
        return f"{what} no time for the {duration(length)} that it takes before {_clock(view.ends_at)}{opens}"

    def _scheduled(self, number: int) -> Scheduled:
        draft, chosen = self._drafts[number], self._chosen[number]
        after = [
            other
            for other, one in self._chosen.items()
            if other != number
            and _share(draft, self._drafts[other])
            and one.begin + length_s(self._drafts[other]) <= chosen.begin
        ]
        timeline = Timeline(
            not_before=self._slots.moment(chosen.begin),
            start_by=self._start_by[number],
            excess_at=draft.excess_at,
            predicted_s=draft.prediction.total_s,
            predicted_pause_ms=draft.prediction.pause_ms,
            why=chosen.why,
        )
        return Scheduled(timeline, tuple(sorted(after)))


def _start_by(draft: Draft, view: FleetView) -> datetime:
    """Without a predicted excess it is the present load that presses, or nothing does until the forecasts end."""
    if draft.excess_at is not None:
        return draft.excess_at - timedelta(seconds=draft.prediction.total_s)
    return view.now if draft.purpose is Purpose.RELIEF else view.ends_at


def _urgent(draft: Draft) -> bool:
    """Whether a late start is better than none."""
    return draft.purpose is Purpose.RELIEF or draft.excess_at is not None


def _share(one: Draft, other: Draft) -> bool:
    return bool({one.source, one.target} & {other.source, other.target})


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
