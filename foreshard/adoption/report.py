"""What can be moved, as it is: a verdict for every table and bucket, with reasons. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from foreshard.adoption.description import FleetDescription
from foreshard.adoption.facts import Finding, Lookup, ShardFacts
from foreshard.adoption.key_check import check_keys
from foreshard.adoption.suggestion import suggest
from foreshard.postgres.bucket_tables import Table
from foreshard.postgres.hazards import Effect, Hazard
from foreshard.postgres.key_types import fits
from foreshard.topology.keys import KeyType, distribution_type, parts_of


class Verdict(StrEnum):
    """What can be done with a table or bucket, from best to worst."""

    MOVABLE = "movable"
    WHOLE = "movable only as a whole"
    """In one flip of all its keys, without canary steps."""
    NOT = "not movable"


_ORDER = list(Verdict)
_VERDICT = {Effect.BLOCKS: Verdict.NOT, Effect.WHOLE: Verdict.WHOLE, Effect.WARNS: Verdict.MOVABLE}


@dataclass(frozen=True)
class Reason:
    """Why a verdict is what it is, or what a person should know. ``subject`` may be ''."""

    subject: str
    why: str
    remedy: str
    effect: Effect


@dataclass(frozen=True)
class TableReport:
    """One table of one bucket. ``column``: its distribution column, None if it is not described."""

    name: str
    column: str | None
    rows: int
    bytes: int
    partitions: int
    verdict: Verdict
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class BucketReport:
    """One bucket. ``number`` is its place in the description; ``reasons`` are those that are no table's."""

    name: str
    number: int
    shard: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    tables: tuple[TableReport, ...]


@dataclass(frozen=True)
class AdoptionReport:
    """The whole fleet as it was found."""

    shards: tuple[ShardFacts, ...]
    buckets: tuple[BucketReport, ...]
    findings: tuple[Finding, ...]
    sampled: int
    """Keys that were looked at."""

    @property
    def all_movable(self) -> bool:
        """Nothing stands in the way of anything, canary steps included."""
        return (
            bool(self.buckets)
            and all(bucket.verdict is Verdict.MOVABLE for bucket in self.buckets)
            and not any(finding.blocks for finding in self.findings)
        )

    @property
    def untrue(self) -> tuple[Finding, ...]:
        """What would make a topology written now a lie."""
        return tuple(finding for finding in self.findings if finding.untrue)

    def count(self, verdict: Verdict) -> int:
        """Buckets with that verdict."""
        return sum(bucket.verdict is verdict for bucket in self.buckets)


def bucket_order(description: FleetDescription, shards: Sequence[ShardFacts]) -> tuple[str, ...]:
    """Every bucket in the order of its number: as named, or those that a pattern found, sorted."""
    if description.buckets.names is not None:
        return description.buckets.names
    return tuple(sorted({bucket for shard in shards for bucket in shard.buckets}))


def make_report(
    description: FleetDescription, shards: Sequence[ShardFacts], lookup: Lookup | None = None
) -> AdoptionReport:
    """The report on what an inspection found."""
    order = bucket_order(description, shards)
    keys = {name: found for shard in shards for name, found in shard.keys.items()}
    findings = [
        *_of_shards(shards),
        *databases(parts_of(description.key_type), shards),
        *_of_placement(order, shards),
        *_of_description(description, shards),
        *check_keys(description.bucketing.kind, description.key_type, order, keys, lookup or Lookup()),
    ]
    number = {name: place for place, name in enumerate(order)}
    buckets = [report for shard in shards for report in _buckets(description, shard, number)]
    return AdoptionReport(
        tuple(shards),
        tuple(sorted(buckets, key=lambda one: (one.number, one.shard))),
        tuple(findings),
        sum(len(found) for found in keys.values()),
    )


def _of_shards(shards: Sequence[ShardFacts]) -> Iterator[Finding]:
    for shard in shards:
        if shard.away is not None:
            remedy = "What is on it is not in this report. Start it, or correct its dsn and passfile."
            yield Finding(shard.name, shard.away, remedy, untrue=True)
        yield from shard.findings


def databases(key_types: Sequence[KeyType], shards: Sequence[ShardFacts]) -> Iterator[Finding]:
    """What is wrong with the shards' databases beside each other."""
    seen: dict[tuple[int, int], str] = {}
    encodings: dict[str, list[str]] = {}
    for shard in shards:
        if shard.database is None:
            continue
        other = seen.setdefault(shard.database, shard.name)
        if other != shard.name:
            why = f"is the same database as {other}, or a copy of its server (a clone, a restored backup, a standby)"
            remedy = "Describe it once; a shard of its own needs a server made with initdb."
            yield Finding(shard.name, why, remedy, untrue=True)
        encodings.setdefault(shard.encoding, []).append(shard.name)
    if len(encodings) > 1:
        both = " and ".join(f"{encoding} on {', '.join(names)}" for encoding, names in encodings.items())
        yield Finding("encoding", f"is {both}", "Buckets move between databases of the same encoding only.")
    elif encodings and KeyType.TEXT in key_types and "UTF8" not in encodings:
        yield Finding("encoding", "is not UTF8", "Routers hash text keys as UTF-8: convert the databases.")


def _of_placement(order: Sequence[str], shards: Sequence[ShardFacts]) -> Iterator[Finding]:
    on: dict[str, list[ShardFacts]] = defaultdict(list)
    for shard in shards:
        for bucket in shard.buckets:
            on[bucket].append(shard)
    if not on and all(shard.away is None for shard in shards):
        yield Finding("buckets", "are on no shard: no schema fits", "Correct [buckets].", untrue=True)
        return
    doubled: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for bucket, holders in on.items():
        # Both ends of a migration hold it, and both say so.
        if len(holders) > 1 and not all(bucket in shard.moving for shard in holders):
            doubled[tuple(shard.name for shard in holders)].append(bucket)
    for names, buckets in doubled.items():
        yield Finding(
            *_some("bucket", buckets, "is", "are", f"on {' and on '.join(names)}"),
            "Find out which one the application uses, and drop or rename the other copy.",
            untrue=True,
        )
    missing = [bucket for bucket in order if bucket not in on]
    if missing and all(shard.away is None for shard in shards):
        remedy = "Correct [buckets] names, or describe the shard that holds them."
        yield Finding(*_some("bucket", missing, "is", "are", "named, but on no shard"), remedy, untrue=True)


def _of_description(description: FleetDescription, shards: Sequence[ShardFacts]) -> Iterator[Finding]:
    present = {table.name for shard in shards for table in shard.tables}
    for name in description.distribution_columns:
        if name not in present and present:
            yield Finding(f"tables.{name}", "is in no bucket", "Remove it from [tables] or correct its name.")
    columns = {column: table for table, column in description.distribution_columns.items()}
    if len(columns) > 1:
        listed = ", ".join(f"{table} by {column}" for column, table in list(columns.items())[:4])
        yield Finding(
            "tables",
            f"are distributed by columns of different names ({listed})",
            "Right only if all of them hold the same key: what one transaction writes must have one key, or it"
            " would have two owners during canary steps.",
            blocks=False,
        )
    without = [name for name, shard in description.shards.items() if not shard.capacity]
    if without:
        remedy = (
            "Nothing is decided without one: give it in the file, or later by `foreshard shard capacity`."
        )
        yield Finding(*_some("shard", without, "has", "have", "no capacity"), remedy, blocks=False)


def _buckets(
    description: FleetDescription, shard: ShardFacts, number: Mapping[str, int]
) -> Iterator[BucketReport]:
    tables: dict[str, list[Table]] = {bucket: [] for bucket in shard.buckets}
    for table in shard.tables:
        tables[table.bucket].append(table)
    hazards: dict[tuple[str, str | None], list[Hazard]] = defaultdict(list)
    for hazard in shard.hazards:
        hazards[hazard.bucket, hazard.table].append(hazard)
    for bucket, mine in tables.items():
        columns = {table.name: frozenset(column.name for column in table.columns) for table in mine}
        reports = []
        for table in mine:
            found = [
                one for name in (table.name, *table.partitions) for one in hazards.pop((bucket, name), ())
            ]
            reports.append(_table(table, description, columns, found))
        left = [one for key in list(hazards) if key[0] == bucket for one in hazards.pop(key)]
        reasons = [Reason(one.subject, one.why, one.remedy, one.effect) for one in left]
        reasons += [
            Reason(name, "is missing here", "Create it, or remove it from [tables].", Effect.BLOCKS)
            for name in description.distribution_columns
            if name not in columns
        ]
        if bucket in shard.moving:
            why = f"is being moved by {shard.moving[bucket]}"
            reasons.append(Reason("", why, "Look at it again when that has ended.", Effect.WARNS))
        verdict = _worst(
            [*(report.verdict for report in reports), *(_VERDICT[one.effect] for one in reasons)]
        )
        if any(finding.blocks for finding in shard.findings):
            verdict = Verdict.NOT
        yield BucketReport(bucket, number[bucket], shard.name, verdict, tuple(reasons), tuple(reports))


def _table(
    table: Table,
    description: FleetDescription,
    columns: Mapping[str, frozenset[str]],
    hazards: Sequence[Hazard],
) -> TableReport:
    column = description.distribution_columns.get(table.name)
    reasons = [Reason(one.subject, one.why, one.remedy, one.effect) for one in hazards]
    if column is None:
        # What hazards say of a distribution column means nothing here.
        reasons = [one for one in reasons if not one.subject.endswith(f"{table.name}.")]
        others = {name: names for name, names in columns.items() if name != table.name}
        said = suggest(
            table, description.distribution_columns, others, distribution_type(description.key_type)
        )
        reasons.insert(0, Reason("", said.why, said.remedy, Effect.BLOCKS))
    else:
        wrong = _wrong_column(table, column, distribution_type(description.key_type))
        if wrong is not None:
            reasons = [one for one in reasons if not one.subject.endswith(f"{table.name}.{column}")]
            reasons.insert(0, wrong)
    return TableReport(
        table.name,
        column,
        table.rows,
        table.bytes,
        len(table.partitions),
        _worst([_VERDICT[one.effect] for one in reasons]),
        tuple(reasons),
    )


def _wrong_column(table: Table, name: str, key_type: KeyType) -> Reason | None:
    column = table.column(name)
    if column is None:
        listed = ", ".join(one.name for one in table.columns)
        return Reason(name, f"is no column of it; it has {listed}", "Correct it in [tables].", Effect.BLOCKS)
    if not fits(column.type, key_type):
        remedy = "Keys of one fleet have one type: correct key_type or the column."
        return Reason(name, f"is {column.type}, the fleet's keys are {key_type}", remedy, Effect.BLOCKS)
    if not column.not_null:
        remedy = f"ALTER TABLE … ALTER {name} SET NOT NULL: a row without a key has no owner."
        return Reason(name, "may be NULL", remedy, Effect.BLOCKS)
    return None


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=_ORDER.index, default=Verdict.MOVABLE)


def _some(noun: str, names: Sequence[str], one: str, many: str, rest: str) -> tuple[str, str]:
    """Subject and predicate."""
    if len(names) == 1:
        return f"{noun} {names[0]}", f"{one} {rest}"
    shown = f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
    return f"{len(names)} {noun}s ({shown})", f"{many} {rest}"
