"""What writing a fleet would change in the control database, and what forbids it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from foreshard.adoption.description import FleetDescription
from foreshard.adoption.facts import Finding
from foreshard.adoption.report import AdoptionReport
from foreshard.topology.bucketing import Bucketing, BucketingKind
from foreshard.topology.keys import KeyTypes, key_types_text


@dataclass(frozen=True)
class DescribedShard:
    """A shard as it is, or would be, in the control database."""

    dsn: str
    application_dsn: str
    capacity: Mapping[str, float]


@dataclass(frozen=True)
class PlacedBucket:
    """A bucket's number and shard."""

    number: int
    shard: str


@dataclass(frozen=True)
class Topology:
    """Everything that an adoption writes, and, of a control database, what stands in its way.

    ``live``: migration by bucket, for those that have not ended. ``shadow_role``: None for none.
    """

    key_type: KeyTypes
    tables: Mapping[str, str]
    bucketing: Bucketing
    shards: Mapping[str, DescribedShard]
    buckets: Mapping[str, PlacedBucket]
    live: Mapping[str, int] = field(default_factory=dict)
    shadow_role: str | None = None


@dataclass(frozen=True)
class Change:
    """One difference; ``was`` or ``becomes`` is '' where there is nothing."""

    what: str
    was: str
    becomes: str


@dataclass(frozen=True)
class Adoption:
    """What is to be written: the topology, what it changes, and why it must not be (empty: it may)."""

    topology: Topology
    changes: tuple[Change, ...]
    refusals: tuple[Finding, ...]


def plan_adoption(
    description: FleetDescription, report: AdoptionReport, present: Topology | None
) -> Adoption:
    """``present``: what the control database holds, None if nothing."""
    wanted = _wanted(description, report, present)
    changes = tuple(_changes(present, wanted))
    refusals = (*report.untrue, *(() if present is None else _refusals(present, wanted, report)))
    return Adoption(wanted, changes, refusals)


def _wanted(description: FleetDescription, report: AdoptionReport, present: Topology | None) -> Topology:
    held = {} if present is None else present.shards
    shards = dict(held)  # what the file does not name stays: `foreshard shard remove` is for that
    for name, shard in description.shards.items():
        capacity = shard.capacity or (held[name].capacity if name in held else {})
        shards[name] = DescribedShard(shard.dsn, shard.application_dsn, capacity)
    placed = {bucket.name: PlacedBucket(bucket.number, bucket.shard) for bucket in report.buckets}
    if present is not None:
        placed = _numbered_on(description, placed, present)
        # Where a bucket in migration is, its migration says.
        for bucket in placed.keys() & present.live.keys() & present.buckets.keys():
            placed[bucket] = replace(placed[bucket], shard=present.buckets[bucket].shard)
    return Topology(
        description.key_type,
        description.distribution_columns,
        description.bucketing.bucketing(),
        shards,
        placed,
        shadow_role=description.shadow_role,
    )


def _numbered_on(
    description: FleetDescription, placed: Mapping[str, PlacedBucket], present: Topology
) -> dict[str, PlacedBucket]:
    """Numbers mean something under ``hash`` only: elsewhere a tenant that comes or goes renumbers nobody."""
    if description.bucketing.kind is BucketingKind.HASH:
        return dict(placed)
    free = max((bucket.number for bucket in present.buckets.values()), default=-1) + 1
    numbered = {}
    for name, bucket in placed.items():
        if name in present.buckets:
            numbered[name] = replace(bucket, number=present.buckets[name].number)
        else:
            numbered[name] = replace(bucket, number=free)
            free += 1
    return numbered


def _changes(present: Topology | None, wanted: Topology) -> Iterator[Change]:
    if present is None:
        yield Change("key_type", "", key_types_text(wanted.key_type))
        yield Change("bucketing", "", _in_words(wanted.bucketing))
    else:
        if present.key_type != wanted.key_type:
            yield Change("key_type", key_types_text(present.key_type), key_types_text(wanted.key_type))
        if present.bucketing != wanted.bucketing:
            yield Change("bucketing", _in_words(present.bucketing), _in_words(wanted.bucketing))
    was = (present.shadow_role if present else None) or ""
    if was != (wanted.shadow_role or ""):
        yield Change("shadow_role", was, wanted.shadow_role or "")
    tables: Mapping[str, str] = {} if present is None else present.tables
    yield from _differences("table", tables, wanted.tables)
    shards: Mapping[str, DescribedShard] = {} if present is None else present.shards
    for part in ("dsn", "application_dsn", "capacity"):
        yield from _differences(
            part.replace("_", " "),
            {name: _part(shard, part) for name, shard in shards.items()},
            {name: _part(shard, part) for name, shard in wanted.shards.items()},
        )
    buckets: Mapping[str, PlacedBucket] = {} if present is None else present.buckets
    yield from _differences(
        "bucket",
        {name: _placed(one) for name, one in buckets.items()},
        {name: _placed(one) for name, one in wanted.buckets.items()},
    )


def _differences(noun: str, was: Mapping[str, str], becomes: Mapping[str, str]) -> Iterator[Change]:
    for name in (*becomes, *(gone for gone in was if gone not in becomes)):
        if was.get(name, "") != becomes.get(name, ""):
            yield Change(f"{noun} {name}", was.get(name, ""), becomes.get(name, ""))


def _part(shard: DescribedShard, part: str) -> str:
    value = getattr(shard, part)
    if isinstance(value, str):
        return value
    return ", ".join(f"{metric} {limit:g}" for metric, limit in sorted(value.items()))


def _in_words(bucketing: Bucketing) -> str:
    return " ".join(bucketing.to_json().values())


def _refusals(present: Topology, wanted: Topology, report: AdoptionReport) -> Iterator[Finding]:
    away = {name for shard in report.shards if shard.away is not None for name in (shard.name,)}
    holding = {bucket.shard for bucket in present.buckets.values()}
    seen = {shard.name for shard in report.shards}
    for name in sorted(holding - seen):
        count = sum(bucket.shard == name for bucket in present.buckets.values())
        yield Finding(
            f"shard {name}",
            f"holds {count} buckets by the control database and is not in the description",
            "Describe it too, or drain it first and `foreshard shard remove` it.",
            untrue=True,
        )
    if not present.live:
        return
    number = min(present.live.values())
    settled = f"until migration {number} has ended"
    for what, differs in (
        ("key_type", present.key_type != wanted.key_type),
        ("bucketing", present.bucketing != wanted.bucketing),
        ("tables", present.tables != wanted.tables),
        ("shadow_role", present.shadow_role != wanted.shadow_role),  # the copies were made for the old one
    ):
        if differs:
            yield Finding(what, f"must not change {settled}", "Wait for it, or abort it.", untrue=True)
    for bucket, migration in sorted(present.live.items()):
        was, becomes = present.buckets[bucket], wanted.buckets.get(bucket)
        # A bucket that is gone because its shard does not answer is refused for that already.
        if becomes is None and was.shard in away:
            continue
        if becomes != was:
            why = f"is in migration {migration} and would be {_placed(becomes)} (now {_placed(was)})"
            yield Finding(f"bucket {bucket}", why, "Wait for it, or abort it.", untrue=True)
    if len(present.buckets) != len(wanted.buckets) and wanted.bucketing.kind is BucketingKind.HASH:
        yield Finding(
            "buckets", f"must not change in number {settled}", "Wait for it, or abort it.", untrue=True
        )


def _placed(bucket: PlacedBucket | None) -> str:
    return "gone" if bucket is None else f"number {bucket.number} on {bucket.shard}"
