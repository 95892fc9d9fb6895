"""Looks at every shard of a description, all at once. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from foreshard.adoption.description import FleetDescription, ShardSection
from foreshard.adoption.facts import Finding, Lookup, ShardFacts
from foreshard.errors import ForeshardError
from foreshard.postgres import bucket_tables, directory, guard, hazards, preflight_queries
from foreshard.postgres.bucket_tables import Table
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.key_sample import sample_keys
from foreshard.postgres.key_types import fits
from foreshard.router.bucket_finder import imported
from foreshard.topology.bucketing import Bucketing, BucketingKind
from foreshard.topology.keys import Key, KeyType

OLDEST_SERVER = 160000
FREE_SLOTS = 6
"""One for a migration's stream, and one for each table copy that runs at the same time."""

_STATEMENT_TIMEOUT_S = 60
_LOCK_TIMEOUT = "SET lock_timeout = '2s'"
"""Somebody who holds a table exclusively must not make a dry run hang, nor it others behind it."""

Report = Callable[[str, str], None]
"""Told a shard and what is done there now, from several threads."""


def inspect(description: FleetDescription, report: Report = lambda *_: None) -> list[ShardFacts]:
    """What every shard shows, in the order of the description. One that is down has only ``away``."""
    with ThreadPoolExecutor(min(16, len(description.shards))) as pool:
        return list(
            pool.map(
                lambda one: inspect_shard(one[0], one[1], description, report), description.shards.items()
            )
        )


def inspect_shard(
    name: str, shard: ShardSection, description: FleetDescription, report: Report = lambda *_: None
) -> ShardFacts:
    """What one shard shows."""
    try:
        report(name, "connects")
        with connect(shard.dsn, statement_timeout_s=_STATEMENT_TIMEOUT_S) as conn:
            conn.execute(_LOCK_TIMEOUT)
            return _look(conn, name, shard, description, report)
    except ForeshardError as error:
        return ShardFacts(name, away=_one_line(error))
    except psycopg.Error as error:
        return ShardFacts(name, away=f"could not be inspected: {_one_line(error)}")
    finally:
        report(name, "done")


def look_up(
    bucketing: Bucketing, keys: Sequence[Key], key_type: KeyType, report: Report = lambda *_: None
) -> Lookup:
    """Ask the fleet's directory, or the application's function, for the buckets of these keys."""
    if bucketing.kind is BucketingKind.HASH:
        return Lookup()
    report("keys", f"asks the {bucketing.kind}")
    try:
        if bucketing.function is not None:
            return _called(bucketing.function, keys)
        assert bucketing.dsn is not None  # `Bucketing` checked it
        with connect(bucketing.dsn, statement_timeout_s=_STATEMENT_TIMEOUT_S) as conn:
            return Lookup(
                directory.buckets_of(conn, bucketing, keys, key_type),
                directory.keys_by_bucket(conn, bucketing),
            )
    except psycopg.Error as error:
        why, remedy = (
            f"cannot be read: {_one_line(error)}",
            "Name the table with its schema; grant SELECT on it.",
        )
    except ForeshardError as error:
        why, remedy = _one_line(error), error.remedy or "Mend it."
    except Exception as error:  # importing and calling the application's code can raise anything
        why, remedy = f"fails: {type(error).__name__}: {error}", "Mend the function."
    finally:
        report("keys", "done")
    return Lookup(trouble=Finding(f"bucketing ({bucketing.kind})", why, remedy, untrue=True))


def _called(function: str, keys: Sequence[Key]) -> Lookup:
    bucket_of: Callable[[Key], object] = imported(function)
    found: dict[Key, str] = {}
    for key in keys:
        bucket = bucket_of(key)
        if not isinstance(bucket, str):
            why = f"gives {type(bucket).__name__} for key {key!r}, not the name of a bucket"
            return Lookup(trouble=Finding(f"function {function}", why, "Return a string.", untrue=True))
        found[key] = bucket
    return Lookup(found)


def _look(
    conn: Connection, name: str, shard: ShardSection, description: FleetDescription, report: Report
) -> ShardFacts:
    report(name, "reads the catalogs")
    usable = bucket_tables.buckets(conn, description.buckets.pattern, description.buckets.names or ())
    tables = bucket_tables.tables(conn, usable)
    findings = [*_server(conn, name), *_grants(conn, name), *_closed(name, usable)]
    report(name, f"looks for hazards in {len(tables)} tables")
    found = hazards.find(conn, list(usable), description.tables)
    report(name, "looks at some keys of each table")
    keys = {}
    try:
        keys = sample_keys(conn, dict(_to_sample(tables, description)), description.key_type)
    except psycopg.Error as error:
        why = f"could not be looked at: {_one_line(error)}"
        findings.append(Finding(f"{name}: keys", why, "Run it again when the table is free.", blocks=False))
    report(name, "connects as the application")
    identity = bucket_tables.database_identity(conn)
    findings += _application(name, shard, description, list(usable), identity)
    version, encoding = _version_and_encoding(conn)
    return ShardFacts(
        name,
        version=version,
        database=identity,
        encoding=encoding,
        buckets=tuple(usable),
        tables=tuple(tables),
        hazards=tuple(found),
        keys=keys,
        moving=bucket_tables.moving(conn),
        findings=tuple(findings),
    )


def _to_sample(
    tables: Sequence[Table], description: FleetDescription
) -> Iterator[tuple[tuple[str, str], str]]:
    for table in tables:
        column = table.column(description.tables.get(table.name, ""))
        if table.readable and column is not None and fits(column.type, description.key_type):
            yield (table.bucket, table.name), column.name


def _server(conn: Connection, shard: str) -> Iterator[Finding]:
    server = preflight_queries.server_settings(conn)
    if server.version < OLDEST_SERVER:
        yield Finding(f"{shard}: server", "is older than PostgreSQL 16", "Upgrade it.")
    if server.wal_level != "logical":
        yield Finding(
            f"{shard}: wal_level", f"is {server.wal_level}", "Set wal_level = logical and restart it."
        )
    for name, free in (
        ("max_replication_slots", server.free_slots),
        ("max_wal_senders", server.free_senders),
    ):
        if free < FREE_SLOTS:
            yield Finding(
                f"{shard}: {name}", f"leaves {free} free, a migration needs {FREE_SLOTS}", "Raise it."
            )
    for gid in server.prepared:
        why = "would hold every flip for ever"
        yield Finding(f"{shard}: prepared transaction {gid}", why, "Commit it or roll it back.")


def _grants(conn: Connection, shard: str) -> Iterator[Finding]:
    server = preflight_queries.server_settings(conn)
    replicates = conn.execute("SELECT rolreplication FROM pg_roles WHERE rolname = current_user").fetchone()
    lacking = [
        what
        for what, there in (
            ("REPLICATION", replicates == (True,)),
            ("membership in pg_create_subscription", server.may_subscribe),
            ("the right to keep CREATE SUBSCRIPTION out of the log", server.may_keep_quiet),
            ("a schema foreshard of its own", guard.owns_schema(conn)),
        )
        if not there
    ]
    if lacking:
        remedy = "Let an administrator run there what `foreshard grants --sql` prints."
        yield Finding(f"{shard}: role of dsn", f"lacks {', '.join(lacking)}", remedy)


def _closed(shard: str, usable: Mapping[str, bool]) -> Iterator[Finding]:
    closed = [bucket for bucket, may in usable.items() if not may]
    if closed:
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        yield Finding(
            f"{shard}: schema {closed[0]}{more}",
            "may not be used by the role of dsn",
            "Grant it the role that owns the tables (`foreshard grants --sql --owner …`).",
        )


def _application(
    shard: str,
    section: ShardSection,
    description: FleetDescription,
    buckets: Sequence[str],
    identity: tuple[int, int],
) -> Iterator[Finding]:
    subject = f"{shard}: application_dsn"
    try:
        with connect(section.application_dsn, statement_timeout_s=_STATEMENT_TIMEOUT_S) as conn:
            rights = bucket_tables.application_rights(conn, buckets, list(description.tables))
    except (ForeshardError, psycopg.Error) as error:
        yield Finding(
            subject, f"cannot be used from here: {_one_line(error)}", "Routers need it.", blocks=False
        )
        return
    if rights.database != identity:
        yield Finding(subject, "leads to another database than dsn", "Correct one of them.", untrue=True)
        return
    if rights.lacking:
        why = f"may not read and write {rights.lacking} tables, {rights.example} for one"
        yield Finding(
            f"{shard}: role {rights.role}", why, "Harmless if nothing writes there as it.", blocks=False
        )
    if rights.sees_foreshard is False:
        why = "may not use schema foreshard: its writes would fail while a bucket moves"
        yield Finding(
            f"{shard}: role {rights.role}",
            why,
            "GRANT USAGE ON SCHEMA foreshard, as `foreshard grants` does.",
        )


def _version_and_encoding(conn: Connection) -> tuple[str, str]:
    row = conn.execute(
        "SELECT split_part(current_setting('server_version'), ' ', 1),"
        "       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database())"
    ).fetchone()
    assert row is not None  # our own database
    return str(row[0]), str(row[1])


def _one_line(error: ForeshardError | psycopg.Error) -> str:
    """libpq adds lines of advice."""
    text = error.message if isinstance(error, ForeshardError) else str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
