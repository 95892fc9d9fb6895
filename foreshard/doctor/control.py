"""The control database: does it answer, has it this version's schema."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.doctor.finding import Finding, ok, warn, wrong
from foreshard.errors import NotFound
from foreshard.postgres import server_facts
from foreshard.postgres.server_facts import ClockOffset
from foreshard.topology.keys import KeyType

CHECK = "control"


@dataclass(frozen=True)
class Fleet:
    """What the control database says of the fleet: the other checks begin with it."""

    shards: tuple[ShardRecord, ...]
    buckets: dict[str, tuple[str, ...]]
    """Those of each shard."""
    shadow_role: str | None
    key_type: KeyType


@dataclass(frozen=True)
class ControlFacts:
    """``fleet`` is None without a schema of this version, or before a fleet was described."""

    revision: str | None
    newest: str | None
    clock: ClockOffset
    fleet: Fleet | None


def read(control: ControlDatabase) -> ControlFacts:
    """Raises OperationalError (of SQLAlchemy or psycopg) when it does not answer."""
    current, newest = control.revision()
    with control.connect() as conn:
        clock = server_facts.clock_offset(conn)
    return ControlFacts(current, newest, clock, _fleet(control) if current == newest else None)


def _fleet(control: ControlDatabase) -> Fleet | None:
    topology = TopologyStore(control)
    try:
        role, key_type, placement = topology.shadow_role(), topology.key_type(), topology.placement()
    except NotFound:
        return None
    shards = topology.shards()
    buckets = {shard.name: placement.buckets_on(shard.name) for shard in shards}
    return Fleet(shards, buckets, role, key_type)


def judge(facts: ControlFacts) -> list[Finding]:
    """Schema and fleet."""
    found = [_schema(facts)]
    if facts.revision == facts.newest and (facts.fleet is None or not facts.fleet.shards):
        found.append(
            warn(CHECK, "no fleet is described yet", "Run `foreshard adopt fleet.toml`, then with --write.")
        )
    return found


def _schema(facts: ControlFacts) -> Finding:
    if facts.revision == facts.newest:
        return ok(CHECK, f"control database answers, schema {facts.revision}")
    if facts.revision is None:
        return wrong(
            CHECK, "control database has no schema", f"Run `foreshard upgrade` (makes {facts.newest})."
        )
    return wrong(
        CHECK,
        f"control database has schema {facts.revision}, this version wants {facts.newest}",
        "Run `foreshard upgrade`; if the database is newer, install the version that made it.",
    )


def away(reason: str) -> Finding:
    """It does not answer."""
    return wrong(
        CHECK,
        f"control database does not answer: {reason}",
        "Start it, or correct control.dsn and its password.",
    )
