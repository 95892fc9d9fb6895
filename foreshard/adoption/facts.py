"""What an inspection found. Plain data; what it means is said by `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from foreshard.postgres.bucket_tables import Table
from foreshard.postgres.hazards import Hazard
from foreshard.topology.keys import Key


@dataclass(frozen=True)
class Finding:
    """Something about a shard or the fleet as a whole.

    ``blocks``: no bucket there can move until it is mended. ``untrue``: a topology written now would be a lie.
    """

    subject: str
    why: str
    remedy: str
    blocks: bool = True
    untrue: bool = False


@dataclass(frozen=True)
class ShardFacts:
    """One shard. ``away`` says why nothing could be read; everything else is empty then.

    ``database``: what tells it from every other database. ``keys``: some keys of (bucket, table). ``moving``:
    migration by bucket, as the shard says.
    """

    name: str
    away: str | None = None
    version: str = ""
    database: tuple[int, int] | None = None
    encoding: str = ""
    buckets: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    keys: Mapping[tuple[str, str], Sequence[Key]] = field(default_factory=dict)
    moving: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Lookup:
    """What directory or function say of the sampled keys.

    ``bucket_of``: bucket by key; a key that they do not know is not in it. ``named``: how many keys the directory has
    in each bucket (empty for a function). ``trouble``: why they could not be asked.
    """

    bucket_of: Mapping[Key, str] = field(default_factory=dict)
    named: Mapping[str, int] = field(default_factory=dict)
    trouble: Finding | None = None
