"""Holds a history against what the owners have: nothing lost, doubled, left behind or read too old. Pure.

What it cannot see: a write that nobody was told of, columns that no operation writes, and a stale read of something
whose newer value nobody had been told yet. Whether the two servers are equal is `contents.differences`' question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from foreshard.fleet.ledger import State
from tests.stress.bucket import CHILDREN
from tests.stress.history import History, Kind, Operation, Subject


class Wrong(StrEnum):
    """What is wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    PHANTOM = "phantom"
    """Refused or rolled back, yet there."""
    STALE = "stale"
    TORN = "torn"
    """A parent and its children are not of one transaction."""
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """``count`` writes or reads of one subject that are not as they should be."""

    wrong: Wrong
    subject: str
    count: int
    what: str

    def __str__(self) -> str:
        return f"{self.wrong} {self.count}: {self.subject}: {self.what}"


@dataclass(frozen=True)
class Contents:
    """What the owners hold. Events: rows by op id. Children: (number, version) by key. Tokens: (key, moves) by id."""

    counters: Mapping[int, int] = field(default_factory=dict)
    events: Mapping[UUID, int] = field(default_factory=dict)
    parents: Mapping[int, int] = field(default_factory=dict)
    children: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)
    tokens: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)

    def value(self, subject: Subject) -> int | None:
        """Where the subject stands; None if it is not there."""
        match subject.kind:
            case Kind.COUNTER:
                return self.counters.get(subject.key)
            case Kind.FAMILY:
                return self.parents.get(subject.key)
            case Kind.TOKEN:
                places = self.tokens.get(subject.key)
                return max(moves for _, moves in places) if places else None


def check(history: History, contents: Contents) -> list[Finding]:
    """Everything that contradicts the history; no operation may be under way."""
    by_subject: dict[Subject, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.subject is not None:
            by_subject[operation.subject].append(operation)
    findings = _events(history.operations, contents)
    for subject in sorted(history.starts.keys() | by_subject.keys()):
        findings += _counted(subject, history.starts.get(subject, 0), by_subject[subject], contents)
        if subject.kind is Kind.FAMILY:
            findings += _family(subject, contents)
        if subject.kind is Kind.TOKEN:
            findings += _token(subject, by_subject[subject], contents)
    findings += [Finding(Wrong.STALE, "read", 1, text) for text in history.stale]
    findings += [Finding(Wrong.ERROR, "client", 1, text) for text in history.troubles]
    return findings


def _events(operations: Iterable[Operation], contents: Contents) -> list[Finding]:
    """Acknowledged: exactly so many rows. Unknown: all or none. Refused, or undone inside: none."""
    findings = []
    known: set[UUID] = set()
    for operation in operations:
        if operation.op_id is not None:
            known.add(operation.op_id)
            there = contents.events.get(operation.op_id, 0)
            what = f"{operation.shape}, {operation.state}: {there} of {operation.events} rows"
            event = f"event {operation.op_id}"
            if operation.state is State.REFUSED and there:
                findings.append(Finding(Wrong.PHANTOM, event, there, what))
            elif there > operation.events:
                findings.append(Finding(Wrong.DOUBLED, event, there - operation.events, what))
            elif there < operation.events and (operation.state is State.ACKNOWLEDGED or there):
                findings.append(Finding(Wrong.LOST, event, operation.events - there, what))
    for op_id in contents.events.keys() - known:
        what = "rows that nobody intended, or that were rolled back to a savepoint"
        findings.append(Finding(Wrong.PHANTOM, f"event {op_id}", contents.events[op_id], what))
    return findings


def _counted(
    subject: Subject, start: int, operations: Sequence[Operation], contents: Contents
) -> list[Finding]:
    """A subject has grown by one for each acknowledged write, each was told a value of its own, none is above it."""
    acknowledged = [each for each in operations if each.state is State.ACKNOWLEDGED]
    unknown = sum(each.state is State.UNKNOWN for each in operations)
    now = contents.value(subject)
    if now is None:
        gone = bool(start or acknowledged)
        return [Finding(Wrong.LOST, str(subject), max(1, len(acknowledged)), "is gone")] if gone else []
    values = Counter(each.value for each in acknowledged)
    overwritten = sum(count - 1 for count in values.values())
    # Two acknowledged writes left one value, or the subject stands below a value that was acknowledged.
    lost = max(
        overwritten,
        len(acknowledged) - (now - start),
        sum(value is not None and value > now for value in values),
    )
    doubled = (now - start) - len(values) - unknown
    what = f"from {start} to {now}; acknowledged {len(acknowledged)} with {len(values)} values, unknown {unknown}"
    return [
        Finding(wrong, str(subject), number, what)
        for wrong, number in ((Wrong.LOST, lost), (Wrong.DOUBLED, doubled))
        if number > 0
    ]


def _family(subject: Subject, contents: Contents) -> list[Finding]:
    version = contents.parents.get(subject.key)
    children = sorted(contents.children.get(subject.key, ()))
    expected = [] if version is None else [(number, version) for number in range(1, CHILDREN + 1)]
    if children == expected:
        return []
    return [Finding(Wrong.TORN, str(subject), 1, f"version {version} has children {children}")]


def _token(subject: Subject, operations: Sequence[Operation], contents: Contents) -> list[Finding]:
    places = contents.tokens.get(subject.key, ())
    if len(places) > 1:
        return [Finding(Wrong.DOUBLED, str(subject), len(places) - 1, f"stands at {sorted(places)}")]
    told = {each.value: each.place for each in operations if each.state is State.ACKNOWLEDGED}
    if len(places) == 1:
        key, moves = places[0]
        if moves in told and told[moves] != key:
            return [
                Finding(Wrong.LOST, str(subject), 1, f"move {moves} led to {told[moves]}, it stands at {key}")
            ]
    return []
