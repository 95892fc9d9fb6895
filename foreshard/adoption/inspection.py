"""Looks at every shard of a description, all at once. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from foreshard.adoption.description import FleetDescription, ShardSection
from foreshard.adoption.facts import Finding, Lookup, ShardFacts
from foreshard.errors import ForeshardError
from foreshard.migration.preflight import server
from foreshard.postgres import bucket_tables, directory, hazards, server_facts
from foreshard.postgres.bucket_tables import Table
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.guard import Side
from foreshard.postgres.key_sample import sample_keys
from foreshard.postgres.key_types import fits
from foreshard.postgres.server_facts import ServerFacts
from foreshard.router.bucket_finder import imported
from foreshard.settings import MigrationSettings
from foreshard.topology.bucketing import Bucketing, BucketingKind
from foreshard.topology.keys import Key, KeyTypes, distribution_type, parts_of

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
    bucketing: Bucketing, keys: Sequence[Key], key_type: KeyTypes, report: Report = lambda *_: None
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
                directory.buckets_of(conn, bucketing, keys, distribution_type(key_type)),
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
    facts, findings = _server(conn, name)
    findings += _closed(name, usable)
    report(name, f"looks for hazards in {len(tables)} tables")
    found = hazards.find(
        conn, list(usable), description.distribution_columns, distribution_type(description.key_type)
    )
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
    return ShardFacts(
        name,
        version=f"{facts.version // 10000}.{facts.version % 10000}",
        database=identity,
        encoding=facts.encoding,
        buckets=tuple(usable),
        tables=tuple(tables),
        hazards=tuple(found),
        keys=keys,
        moving=bucket_tables.moving(conn),
        findings=tuple(findings),
    )


def _to_sample(
    tables: Sequence[Table], description: FleetDescription
) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    for table in tables:
        names = description.tables.get(table.name, ())
        columns = [table.column(name) for name in names]
        good = all(
            column is not None and fits(column.type, key_type)
            for column, key_type in zip(columns, parts_of(description.key_type), strict=False)
        )
        if table.readable and names and good:
            yield (table.bucket, table.name), names


def _server(conn: Connection, shard: str) -> tuple[ServerFacts, list[Finding]]:
    """As preflight will look at it, as a target: that asks for more."""
    facts = server_facts.read(conn, server.OLD_S)
    found = [
        *server.unreachable(shard, facts, conn.info.backend_pid),
        *server.limits(shard, Side.TARGET, facts, MigrationSettings()),
    ]
    return facts, [Finding(one.subject, one.why, one.remedy, blocks=one.blocking) for one in found]


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
            rights = bucket_tables.application_rights(conn, buckets, list(description.distribution_columns))
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


def _one_line(error: ForeshardError | psycopg.Error) -> str:
    """libpq adds lines of advice."""
    text = error.message if isinstance(error, ForeshardError) else str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
