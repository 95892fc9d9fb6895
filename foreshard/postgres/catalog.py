"""The catalog of a bucket as rows that can be compared between servers, and as one hash over time on one server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from foreshard.errors import NotFound
from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.pair import Pair
from foreshard.postgres.subscriptions import health, table_syncs

MAINTAIN_SINCE = 170000
"""Older versions do not know the privilege MAINTAIN, which ALL includes since."""


class Section(StrEnum):
    """Parts of a bucket's schema that source and target must have alike."""

    COLUMNS = "columns"
    CONSTRAINTS = "constraints"
    INDEXES = "indexes"
    TRIGGERS = "triggers"
    TABLES = "tables"
    SEQUENCES = "sequences"
    VIEWS = "views"
    TYPES = "types"
    ROUTINES = "routines"
    STORAGE = "storage"
    COMMENTS = "comments"
    PRIVILEGES = "privileges"


@dataclass(frozen=True)
class Definition:
    """One object on both sides; None where it is not. ``name`` is ``table.object`` for what belongs to a table."""

    bucket: str
    section: Section
    name: str
    source: str | None
    target: str | None


@dataclass(frozen=True)
class SequencePair:
    """How far a sequence has counted on both sides, in its own direction; None where it is not or is hidden."""

    bucket: str
    name: str
    source: int | None
    target: int | None


@dataclass(frozen=True)
class TableFacts:
    """Whether a table, with all its partitions, can be replicated. ``kind`` and ``persistence``: pg_class' letters."""

    bucket: str
    name: str
    kind: str
    persistence: str
    forced_row_security: bool
    has_replica_identity: bool


@dataclass(frozen=True)
class StreamStatus:
    """One direction of replication: subscription, its worker, its slot on the publisher. ``lag_bytes`` of WAL."""

    subscription: str
    enabled: bool
    running: bool
    tables: int
    tables_not_ready: int
    apply_errors: int
    sync_errors: int
    slot_active: bool
    wal_status: str
    lag_bytes: int


def read_definitions(pair: Pair, bucket: str) -> list[Definition]:
    """Everything that a bucket is made of, both sides side by side: see ``Section``.

    Not USAGE of its schema, which Foreshard itself gives and takes, nor Foreshard's own triggers.
    """
    versions = (pair.source.info.server_version, pair.target.info.server_version)
    parameters = {"bucket": bucket, "buckets": [bucket], "maintain": min(versions) >= MAINTAIN_SINCE}
    queries = (
        sql_file("catalog_definitions.sql"),
        sql_file("catalog_objects.sql"),
        sql_file("catalog_notes.sql").format(inside=sql_file("bucket_objects.sql")),
    )

    def read(session: Connection) -> dict[tuple[str, str], str]:
        return {
            (section, name): definition
            for query in queries
            for section, name, definition in session.execute(query, parameters)
        }

    found = pair.both(read)
    return [
        Definition(bucket, Section(section), name, found.source.get(at), found.target.get(at))
        for at in sorted(found.source.keys() | found.target.keys())
        for section, name in [at]
    ]


def read_sequences(pair: Pair, buckets: Sequence[str]) -> list[SequencePair]:
    """Every sequence of the buckets, both sides side by side."""

    def read(session: Connection) -> dict[tuple[str, str], int | None]:
        rows = session.execute(sql_file("catalog_sequences.sql"), {"buckets": list(buckets)})
        return {(bucket, name): position for bucket, name, position in rows}

    found = pair.both(read)
    return [
        SequencePair(*at, found.source.get(at), found.target.get(at))
        for at in sorted(found.source.keys() | found.target.keys())
    ]


def read_tables(conn: Connection, buckets: Sequence[str]) -> list[TableFacts]:
    """Every table of the buckets on this server; a partitioned one stands for its partitions."""
    return [
        TableFacts(*row) for row in conn.execute(sql_file("catalog_tables.sql"), {"buckets": list(buckets)})
    ]


def count_relations(conn: Connection, buckets: Sequence[str]) -> dict[str, int]:
    """How many relations each schema holds on this server; 0 also for a schema that is not there."""
    rows = conn.execute(sql_file("catalog_leftovers.sql"), {"buckets": list(buckets)})
    return dict(rows.fetchall())


def read_stream(publisher: Connection, subscriber: Connection, subscription: str) -> StreamStatus:
    """Health of a stream whose slot has the subscription's name. Raises `NotFound` if either is gone."""
    worker = health(subscriber, subscription)
    slot = publisher.execute(sql_file("catalog_slot.sql"), {"slot": subscription}).fetchone()
    if worker is None or slot is None:
        gone = "subscription" if worker is None else "replication slot"
        raise NotFound(f"There is no {gone} {subscription}.", subscription=subscription)
    tables = table_syncs(subscriber, subscription)
    active, wal_status, lag_bytes = slot
    return StreamStatus(
        subscription,
        worker.enabled,
        worker.running,
        len(tables),
        sum(table.state != "r" for table in tables),
        worker.apply_errors,
        worker.sync_errors,
        active,
        wal_status,
        lag_bytes,
    )


def fingerprint(conn: Connection, schemas: Iterable[str]) -> str:
    """SHA-256 of the catalog entries of the schemas on this server: it changes when somebody ran DDL on them.

    Taken before every step of a migration, in place of event triggers, which need a superuser. It holds oids,
    so it means nothing on another server; Foreshard's own triggers do not count.
    """
    row = conn.execute(sql_file("catalog_fingerprint.sql"), {"schemas": sorted(schemas)}).fetchone()
    assert row is not None  # an aggregate without GROUP BY gives one row
    return str(row[0])
