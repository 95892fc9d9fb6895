"""One shard's server: does our session reach it as it must, does it allow what a migration needs, who else reads it."""

from __future__ import annotations

from collections.abc import Iterator

from foreshard.migration.preflight.findings import Finding
from foreshard.postgres import standbys
from foreshard.postgres.connect import Connection
from foreshard.postgres.downstream import Neighbour
from foreshard.postgres.guard import Side
from foreshard.postgres.server_facts import ServerFacts
from foreshard.settings import MigrationSettings

OLDEST, NEWEST = 16, 18
"""Major versions that the tests run on."""

OLD_S = 60.0
"""Transactions older than this would keep a replication slot from being made: that waits for each, a minute long."""

SLOTS_WANTED = 6
"""One for the stream, one for the sample of writes, and one per table copy that runs at the same time."""

GRANTS = "Run `foreshard grants --sql` there."


def unreachable(shard: str, facts: ServerFacts, libpq_pid: int) -> list[Finding]:
    """Why nothing else can be asked: the DSN does not lead straight to a primary, or our role may not look."""
    found = []
    if not facts.may_monitor:
        found.append(Finding(f"{shard}: role", "lacks pg_read_all_stats or pg_read_all_settings", GRANTS))
    if not facts.owns_schema:
        found.append(Finding(f"{shard}: schema foreshard", "is not there or not ours", GRANTS))
    if facts.in_recovery:
        found.append(
            Finding(
                f"{shard}: DSN",
                "leads to a standby",
                "Give the primary's address, or target_session_attrs=primary.",
            )
        )
    if libpq_pid != facts.backend_pid:
        found.append(
            Finding(
                f"{shard}: DSN",
                "leads to a pooler: the process that greeted us is not the one that serves us",
                "Give the server's own address; routers may keep the pooler's.",
            )
        )
    elif not facts.keeps_settings:
        found.append(
            Finding(
                f"{shard}: DSN",
                "leads to something that drops the settings of our session",
                "Give the server's own address, without a pooler.",
            )
        )
    return found


def limits(shard: str, side: Side, facts: ServerFacts, settings: MigrationSettings) -> Iterator[Finding]:
    """What version, settings and rights of the server forbid. No question is asked: ``facts`` has it all."""
    major = facts.version // 10000
    if major < OLDEST:
        yield Finding(f"{shard}: version", f"is older than PostgreSQL {OLDEST}", "Upgrade the server.")
    if major > NEWEST:
        yield Finding(
            f"{shard}: version",
            f"is PostgreSQL {major}; Foreshard is tested up to {NEWEST}",
            "Try a bucket without value first.",
            blocking=False,
        )
    if facts.wal_level != "logical":
        yield Finding(
            f"{shard}: wal_level", f"is {facts.wal_level}", "Set wal_level = logical, then restart."
        )
    if facts.read_only:
        yield Finding(
            f"{shard}: default_transaction_read_only",
            "is on for our sessions",
            "Reset it for the server, the database or our role.",
        )
    yield from _room(shard, side, facts)
    if facts.keep_bytes is not None and facts.keep_bytes < settings.wal_budget_bytes:
        yield Finding(
            f"{shard}: max_slot_wal_keep_size",
            f"is {facts.keep_bytes / 1e6:.0f} MB, less than the migration's WAL budget of "
            f"{settings.wal_budget_bytes / 1e6:.0f} MB: a slot may be lost before the migration gives up",
            "Raise it, or lower migration.wal_budget_bytes.",
            blocking=False,
        )
    if facts.idle_timeout_s is not None:
        yield Finding(
            f"{shard}: idle_replication_slot_timeout",
            f"is {facts.idle_timeout_s:.0f} s: a stream that is cut off for longer is lost",
            "Set it to 0 until the migration has ended.",
            blocking=False,
        )
    for allowed, lacking in (
        (facts.may_replicate, "the attribute REPLICATION"),
        (facts.may_subscribe, "pg_create_subscription"),
        (facts.may_create, "CREATE on the database"),
        (facts.may_keep_quiet, "the right to keep CREATE SUBSCRIPTION out of the log"),
    ):
        if not allowed:
            yield Finding(f"{shard}: role", f"lacks {lacking}", GRANTS)
    for gid in facts.prepared:
        yield Finding(
            f"{shard}: prepared transaction {gid}",
            "would hold the fence for ever",
            "Commit it or roll it back.",
        )
    for old in facts.old_transactions:
        yield Finding(
            f"{shard}: {old}",
            f"is open for more than {OLD_S:.0f} s; no replication slot can be made while it is",
            "End it, or wait for its end.",
            blocking=False,
        )


def _room(shard: str, side: Side, facts: ServerFacts) -> Iterator[Finding]:
    """What the max_… settings leave. The target applies what it copies, the source what comes back."""
    copies = max(facts.sync_workers, 1) if side is Side.TARGET else 0
    origins = (
        "max_active_replication_origins" if facts.version >= 180000 else "max_replication_slots (origins)"
    )
    least = 1 + min(copies, 1)
    for name, free, needed, wanted in (
        ("max_replication_slots", facts.free_slots, SLOTS_WANTED, SLOTS_WANTED),
        ("max_wal_senders", facts.free_senders, SLOTS_WANTED, SLOTS_WANTED),
        (origins, facts.free_origins, least, 1 + copies),
        ("max_logical_replication_workers", facts.free_appliers, least, 1 + copies),
        ("max_worker_processes", facts.free_workers, least, 1 + copies),
    ):
        if free < needed:
            yield Finding(f"{shard}: {name}", f"leaves {free} free of {needed} needed", "Raise it.")
        elif free < wanted:
            yield Finding(
                f"{shard}: {name}",
                f"leaves {free} free of {wanted}: fewer tables are copied at the same time",
                "Raise it, or lower max_sync_workers_per_subscription.",
                blocking=False,
            )
    if side is Side.TARGET and facts.sync_workers == 0:
        yield Finding(
            f"{shard}: max_sync_workers_per_subscription",
            "is 0: no table is ever copied",
            "Set it to 2 or more.",
        )


def replicas(shard: str, conn: Connection, named: bool) -> list[Finding]:
    """Standbys. A flip waits for them; one without a slot is not seen once it is away, and could still be promoted.

    ``named``: migration.standbys says which of this shard's may be promoted.
    """
    unwatched = () if named else standbys.unwatched(conn)
    return [
        *(
            Finding(
                f"{shard}: standby {name}",
                "streams without a replication slot: were it away, nobody could tell that it lacks a flip",
                f"Give it a slot, or name the standbys of {shard} that may be promoted in migration.standbys.",
            )
            for name in unwatched
        ),
        *(
            Finding(
                f"{shard}: standby {name}",
                "sees the move with its delay: a bucket comes late there, and goes late",
                "Let its readers wait for it, or read moving buckets on the primary.",
                blocking=False,
            )
            for name in sorted(standbys.seen(conn))
        ),
    ]


def downstream(shard: str, side: Side, found: list[Neighbour]) -> Iterator[Finding]:
    """Change data capture, and whatever changes tables by itself."""
    for one in found:
        subject = f"{shard}: {one.kind} {one.name}"
        match one.kind, side:
            case "publication", Side.SOURCE:
                why = f"publishes tables that leave ({one.detail}): when they are gone its subscribers hear no more"
                remedy = "Subscribe them to the target as well, before the migration is finalised."
            case "publication", _:
                why = f"publishes {one.detail}: its subscribers get the whole copy as inserts, and later changes"
                remedy = "Make sure that they can take it, or publish a list of tables."
            case "slot", _:
                why = f"reads the changes of this database ({one.detail}), those of the migration too"
                remedy = "Re-point what reads it for the buckets, to the target."
            case "event trigger", _:
                why = f"runs at DDL ({one.detail}), also at the migration's own"
                remedy = "Make sure that it lets CREATE and DROP of Foreshard and of the buckets pass."
            case "scheduler", _:
                why = (
                    f"runs jobs in this database ({one.detail}): one that does DDL in a bucket stops its move"
                )
                remedy = "Pause jobs that touch the buckets; on the target they must be made anew."
            case _:
                why = (
                    f"looks after {one.detail}: a partition that comes or goes meanwhile stops the migration"
                )
                remedy = (
                    "Make the partitions of the coming days now, and pause it until the migration has ended."
                )
        yield Finding(subject, why, remedy, blocking=False)
