"""The copied tables as they should be left: without dead rows, with statistics."""

from __future__ import annotations

from psycopg import sql

from foreshard.migration.copying import crew
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.connect import connect

DEAD_SHARE = 0.05
"""Of a table's rows; what is below autovacuum frees by itself."""

LOOK_S = 0.5

_DEAD = """
SELECT coalesce(sum(pg_stat_get_dead_tuples(leaf)), 0)::bigint, coalesce(sum(pg_stat_get_live_tuples(leaf)), 0)::bigint
  FROM (SELECT %s::regclass::oid AS leaf UNION SELECT relid FROM pg_partition_tree(%s::regclass)) AS leaves
"""


def analyse(work: Work, report: Report) -> None:
    """Give the planner statistics of all tables: it has none of rows that were copied a moment ago."""
    tables, done = _tables(work), []

    def at_work(queue: crew.Queue[sql.Identifier]) -> None:
        with connect(work.target.dsn, application=work.session_name) as conn:
            queue.on_stop(conn.cancel_safe)
            for table in queue:
                conn.execute(sql.SQL("ANALYZE {}").format(table))
                done.append(table)

    def watch() -> None:
        report(Progress("statistics", len(done), len(tables), "tables"))

    crew.work_off(tables, min(work.settings.copy_workers, len(tables)), at_work, watch, LOOK_S)
    watch()


def compact(work: Work, report: Report) -> list[str]:
    """Write anew those tables that attempts which failed have left full of dead rows; returns them.

    Before indexes are made; nothing else may use the tables.
    """
    analyse(work, report)  # after a crash the counters are empty; it counts anew
    compacted, tables = [], _tables(work)
    with connect(work.target.dsn, application=work.session_name) as conn:
        for number, table in enumerate(tables):
            report(Progress("dead rows of earlier attempts", number, len(tables), "tables"))
            name = table.as_string(conn)
            row = conn.execute(_DEAD.encode(), (name, name)).fetchone()
            assert row is not None  # an aggregate
            dead, live = row
            if dead > DEAD_SHARE * (dead + live):
                conn.execute(sql.SQL("VACUUM (FULL) {}").format(table))
                compacted.append(name)
    return compacted


def _tables(work: Work) -> list[sql.Identifier]:
    return [table for table, _ in guard.tables_of(work.buckets, work.tables)]
