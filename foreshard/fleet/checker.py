"""Compares what clients were told with what the buckets' owners hold: nothing lost, nothing doubled.

What it cannot see: a write that nobody was told of and that left no operation behind, and damage to columns that
no operation writes. Digests look at those.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from foreshard.fleet.ledger import Kind, Operation, Start, State


@dataclass(frozen=True)
class BucketContents:
    """What a bucket's owner holds: how often each operation's event, and each aircraft's counter."""

    events: Mapping[UUID, int]
    cycles: Mapping[str, int]


@dataclass(frozen=True)
class Finding:
    """``count`` writes of one aircraft that are not as they should be."""

    bucket: str
    tailnum: str
    count: int
    what: str


@dataclass(frozen=True)
class CheckResult:
    """Counts of operations by what clients were told, and everything that contradicts it.

    ``redirected``: those acknowledged by a migration's target before its cutover. ``phantoms``: refused, yet there.
    """

    acknowledged: int
    redirected: int
    refused: int
    unknown: int
    lost: tuple[Finding, ...]
    doubled: tuple[Finding, ...]
    phantoms: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every write is there once, and none that was refused."""
        return not (self.lost or self.doubled or self.phantoms)

    def summary(self) -> dict[str, int]:
        """The counts, ready for a report."""
        return {
            "acknowledged": self.acknowledged,
            "redirected": self.redirected,
            "refused": self.refused,
            "unknown": self.unknown,
            "lost": sum(finding.count for finding in self.lost),
            "doubled": sum(finding.count for finding in self.doubled),
            "phantoms": sum(finding.count for finding in self.phantoms),
        }


def check(
    operations: Iterable[Operation],
    starts: Mapping[str, Start],
    read: Callable[[str], BucketContents],
) -> CheckResult:
    """Hold the history against the owners. No operation may be under way.

    ``read`` gives the contents of a bucket at its present owner; it is asked once a bucket.

    An acknowledged event is there exactly once, a refused one never, an unknown one at most once. A counter has grown
    by at least the acknowledged and at most the acknowledged and unknown increments, and no two acknowledged
    increments have left the same value: that shows a lost one even where a doubled one hides it in the sum.
    """
    history = list(operations)
    told = Counter(operation.state for operation in history)
    by_bucket: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_bucket[operation.bucket].append(operation)
    findings = _Findings()
    # Buckets without operations too: a counter that nobody touched must not have moved.
    for bucket in sorted(by_bucket.keys() | {start.bucket for start in starts.values()}):
        contents = read(bucket)
        _check_events(by_bucket[bucket], contents, findings)
        of_bucket = [start for start in starts.values() if start.bucket == bucket]
        _check_counters(by_bucket[bucket], of_bucket, contents, findings)
    return CheckResult(
        acknowledged=told[State.ACKNOWLEDGED],
        redirected=sum(each.redirected for each in history if each.state is State.ACKNOWLEDGED),
        refused=told[State.REFUSED],
        unknown=told[State.UNKNOWN],
        lost=tuple(findings.lost),
        doubled=tuple(findings.doubled),
        phantoms=tuple(findings.phantoms),
    )


class _Findings:
    def __init__(self) -> None:
        self.lost: list[Finding] = []
        self.doubled: list[Finding] = []
        self.phantoms: list[Finding] = []


def _check_events(operations: Iterable[Operation], contents: BucketContents, findings: _Findings) -> None:
    for operation in operations:
        if operation.kind is not Kind.EVENT:
            continue
        there = contents.events.get(operation.op_id, 0)
        what = f"event {operation.op_id}, {operation.state}, is there {there} times"
        if operation.state is State.ACKNOWLEDGED and there == 0:
            findings.lost.append(Finding(operation.bucket, operation.tailnum, 1, what))
        if operation.state is State.REFUSED and there > 0:
            findings.phantoms.append(Finding(operation.bucket, operation.tailnum, 1, what))
        if there > 1:
            findings.doubled.append(Finding(operation.bucket, operation.tailnum, there - 1, what))


def _check_counters(
    operations: Iterable[Operation],
    starts: Iterable[Start],
    contents: BucketContents,
    findings: _Findings,
) -> None:
    increments: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.kind is not Kind.EVENT:
            increments[operation.tailnum].append(operation)
    for start in starts:
        of_tail = increments[start.tailnum]
        acknowledged = [each for each in of_tail if each.state is State.ACKNOWLEDGED]
        unknown = sum(each.state is State.UNKNOWN for each in of_tail)
        if start.tailnum not in contents.cycles:
            findings.lost.append(
                Finding(start.bucket, start.tailnum, max(1, len(acknowledged)), "the aircraft is gone")
            )
            continue
        grown = contents.cycles[start.tailnum] - start.cycles
        values = Counter(each.value for each in acknowledged if each.value is not None)
        overwritten = sum(count - 1 for count in values.values())
        what = (
            f"cycles grew by {grown} from {start.cycles}; acknowledged {len(acknowledged)}, unknown {unknown},"
            f" of the acknowledged {overwritten} were overwritten"
        )
        lost = max(overwritten, len(acknowledged) - grown)
        doubled = grown - (len(acknowledged) - overwritten) - unknown
        if lost > 0:
            findings.lost.append(Finding(start.bucket, start.tailnum, lost, what))
        if doubled > 0:
            findings.doubled.append(Finding(start.bucket, start.tailnum, doubled, what))


class OwnerReader:
    """Reads a bucket of the airline at its owner. ``dsns`` by shard; a role that may SELECT."""

    def __init__(self, shard_of: Mapping[str, str], dsns: Mapping[str, str]) -> None:
        self._shard_of = shard_of
        self._dsns = dsns

    def __call__(self, bucket: str) -> BucketContents:
        """The contents of ``bucket``, in one snapshot."""
        with psycopg.connect(self._dsns[self._shard_of[bucket]], connect_timeout=10) as conn:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            events = conn.execute(
                sql.SQL("SELECT op_id, count(*) FROM {} WHERE op_id IS NOT NULL GROUP BY op_id").format(
                    sql.Identifier(bucket, "passenger_events")
                )
            ).fetchall()
            cycles = conn.execute(
                sql.SQL("SELECT tailnum, cycles FROM {}").format(sql.Identifier(bucket, "aircraft"))
            ).fetchall()
        return BucketContents(dict(events), dict(cycles))
