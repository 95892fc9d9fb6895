"""One shard: version, settings and rights that a migration needs, on either end; what stands there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from foreshard.control.topology_store import DISK_BYTES, ShardRecord
from foreshard.doctor.control import Fleet
from foreshard.doctor.finding import Finding, or_ok, warn, wrong
from foreshard.migration.preflight import buckets as preflight_buckets
from foreshard.migration.preflight import server as preflight_server
from foreshard.migration.preflight.findings import Finding as Obstacle
from foreshard.postgres import room, server_facts, shard_state
from foreshard.postgres.connect import connect
from foreshard.postgres.guard import Side
from foreshard.postgres.room import Disk
from foreshard.postgres.server_facts import ClockOffset, ServerFacts
from foreshard.postgres.shard_state import ShardState, Slot
from foreshard.settings import MigrationSettings

STATEMENT_TIMEOUT_S = 5.0
OURS = "foreshard_"


@dataclass(frozen=True)
class ShardFacts:
    """``obstacles``: what preflight would find by asking; ``state`` is None where we may not look."""

    record: ShardRecord
    server: ServerFacts
    libpq_pid: int
    clock: ClockOffset
    state: ShardState | None = None
    disk: Disk | None = None
    obstacles: tuple[Obstacle, ...] = ()


def read(record: ShardRecord, fleet: Fleet, settings: MigrationSettings) -> ShardFacts:
    """Raises ShardUnavailable, ConfigurationError (its password is not there) or psycopg.Error."""
    with connect(record.dsn, application="foreshard doctor", statement_timeout_s=STATEMENT_TIMEOUT_S) as conn:
        facts = server_facts.read(conn, preflight_server.OLD_S)
        pid, clock = conn.info.backend_pid, server_facts.clock_offset(conn)
        if preflight_server.unreachable(record.name, facts, pid):
            return ShardFacts(record, facts, pid, clock)
        state = shard_state.read(conn, fleet.buckets[record.name])
        return ShardFacts(
            record,
            facts,
            pid,
            clock,
            state,
            room.free_disk(conn, record.capacity.get(DISK_BYTES)) if state.may_see_wal else None,
            (
                *preflight_server.replicas(record.name, conn, named=record.name in settings.standbys),
                *preflight_buckets.shadow_role(conn, record, fleet.shadow_role),
            ),
        )


def judge(facts: ShardFacts, settings: MigrationSettings) -> list[Finding]:
    """Everything of this shard that would stop or hinder a migration from it or to it."""
    name = facts.record.name
    version = facts.server.version
    in_words = f"{name}: PostgreSQL {version // 10000}.{version % 10000}, rights and settings as migrations need them"
    stops = preflight_server.unreachable(name, facts.server, facts.libpq_pid)
    if stops:
        return [_of(name, one) for one in stops]
    obstacles = {
        (one.subject, one.why): one  # what holds for both ends is said once
        for side in (Side.SOURCE, Side.TARGET)
        for one in preflight_server.limits(name, side, facts.server, settings)
    }
    found = [_of(name, one) for one in (*obstacles.values(), *facts.obstacles)]
    if facts.state is not None:
        found += _state(name, facts.state, settings)
    found += _disk(facts, settings)
    return or_ok(name, found, in_words)


def _of(check: str, one: Obstacle) -> Finding:
    return (wrong if one.blocking else warn)(check, f"{one.subject} {one.why}", one.remedy)


def _state(name: str, state: ShardState, settings: MigrationSettings) -> Iterator[Finding]:
    if not state.may_see_wal:
        yield wrong(name, f"{name}: role may not execute pg_ls_waldir()", preflight_server.GRANTS)
    for owner in state.foreign_owners:
        yield wrong(
            name,
            f"{name}: role is no member (INHERIT, SET) of {owner}, who owns buckets",
            f"Run `foreshard grants --sql --owner {owner}` there.",
        )
    if state.missing_buckets:
        some = ", ".join(state.missing_buckets[:3])
        yield wrong(
            name,
            f"{name}: {len(state.missing_buckets)} bucket(s) of the routing map are not there: {some}",
            "Is its DSN right? Was it restored? `foreshard verify --bucket NAME` looks at one.",
        )
    wanted = shard_state.functions_wanted()
    if not state.functions:
        yield wrong(
            name,
            f"{name}: schema foreshard has no functions: applications cannot assert who owns a key",
            "Run `foreshard adopt fleet.toml --write`, which installs them, or migrate to it.",
        )
    elif not wanted <= state.functions:
        old = sorted({one.split()[0] for one in wanted - state.functions})
        yield warn(
            name,
            f"{name}: functions of another version in schema foreshard: {', '.join(old)}",
            "The next migration from or to it renews them; `foreshard adopt fleet.toml --write` does now.",
        )
    for slot in state.slots:
        yield from _slot(name, slot, settings)


def _slot(name: str, slot: Slot, settings: MigrationSettings) -> Iterator[Finding]:
    """Slots that nobody reads keep WAL until the disk is full."""
    whose = f"{name}: slot {slot.name}"
    drop = f"If nobody needs it: SELECT pg_drop_replication_slot('{slot.name}')."
    if slot.name.startswith(OURS):
        drop = "`foreshard janitor --dry-run` says whether its migration has ended; without it, removes it."
    if slot.wal_status == "lost":
        yield wrong(name, f"{whose} is lost: its subscriber can never go on", drop)
    elif not slot.active and (slot.kept_bytes or 0) > settings.wal_budget_bytes:
        yield wrong(name, f"{whose} is read by nobody and keeps {slot.kept_bytes or 0:,} bytes of WAL", drop)
    elif not slot.active:
        yield warn(name, f"{whose} is read by nobody; it keeps {slot.kept_bytes or 0:,} bytes of WAL", drop)


def _disk(facts: ShardFacts, settings: MigrationSettings) -> Iterator[Finding]:
    name, disk = facts.record.name, facts.disk
    if disk is None:
        return
    if disk.free_bytes is None:
        yield warn(
            name,
            f"{name}: its free disk cannot be seen from here, so nothing guards it",
            f"Run `foreshard shard capacity {name} {DISK_BYTES}=BYTES`.",
        )
    elif disk.free_bytes < settings.free_disk_bytes:
        yield wrong(
            name,
            f"{name}: {disk.free_bytes / 2**30:.1f} GiB of disk are free ({disk.how}), "
            f"{settings.free_disk_bytes / 2**30:.1f} are to stay free: no migration can begin",
            "Free some, or lower migration.free_disk_bytes.",
        )
