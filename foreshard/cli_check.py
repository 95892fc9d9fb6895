"""`foreshard check`: the rows in which the two copies of a migration differ, and what a person does about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import psycopg
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy.exc import OperationalError

from foreshard.cli_output import AsJson, MigrationId, complain, err, out, reason, show
from foreshard.control.repair_store import RepairStore
from foreshard.control.session import session
from foreshard.errors import ForeshardError, InvalidInput
from foreshard.migration.bystander import Bystander
from foreshard.migration.difference import Difference, Differences, find
from foreshard.migration.repair import LEFT, Repair, RowOutcome
from foreshard.postgres.digests import TableProgress

check_app = typer.Typer(
    no_args_is_help=True,
    help="The data checks of migrations: differences, their repair, verdicts, your own suites.",
)

DIFFERENT, NOT_COMPARED = 1, 2

Bucket = Annotated[list[str] | None, typer.Option(help="Only this bucket; may be repeated.")]
OnlyTable = Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")]
Limit = Annotated[int, typer.Option(min=1, help="Rows shown; all are counted.")]


@check_app.command("diff")
def diff(
    migration_id: MigrationId,
    bucket: Bucket = None,
    table: OnlyTable = None,
    values: Annotated[
        bool, typer.Option("--values", help="Show the values of both sides, too; long ones are cut.")
    ] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Compares both copies now, while they are written, and shows the rows that differ. Changes nothing.

    missing: the owner of the key has the row, the other side lacks it. ghost: only the other side has it. changed: both
    have it, with other values. A running migration goes on meanwhile. From verify until finalise.

    Exit code: 0 equal, 1 rows differ or could not be judged, 2 it could not be compared.

    Examples: foreshard check diff 3 · foreshard check diff 3 --table orders --values · foreshard check diff 3 --json
    """
    with or_exit(NOT_COMPARED), session() as (settings, control):
        work = Bystander(control, settings, migration_id)
        with comparing() as looked:
            found = find(work, buckets=bucket or (), tables=table or (), values=values, progress=looked)
        shards = {"source": work.source.name, "target": work.target.name}
    if as_json:
        show({"migration": migration_id, **shards, **differences_document(found, limit)})
    else:
        tell_differences(found, shards, limit)
    if not found.equal:
        raise typer.Exit(DIFFERENT)


@check_app.command("repair")
def repair(
    migration_id: MigrationId,
    said_by: Annotated[str, typer.Option("--as", help="Your name; it is kept with every row.")],
    bucket: Bucket = None,
    table: OnlyTable = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be written; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Copies rows that differ from the owner of their keys to the other side, then compares again.

    The owner is never written. Each row is read again under the owner's fence: one that is equal by then is left.
    Writers wait for some milliseconds a batch of 50 rows. Who, when, which rows and what was done is kept in the
    control database.

    Exit code: 0 all is equal now, 1 something is left or was not agreed to, 2 what was given cannot be used.

    Examples: foreshard check repair 3 --as Ada --dry-run · foreshard check repair 3 --as Ada --table orders
    """
    with session() as (settings, control):
        work = Bystander(control, settings, migration_id)
        mending = Repair(work, RepairStore(control), said_by)
        if as_json and not (yes or dry_run):
            raise InvalidInput("--json", "asks nobody.", remedy="Add --yes or --dry-run.")
        scope: dict[str, Any] = {"buckets": bucket or (), "tables": table or ()}
        with comparing() as looked:
            found = find(work, **scope, progress=looked)
        shards = {"source": work.source.name, "target": work.target.name}
        outcomes: list[RowOutcome] = []
        left = found
        if found.rows:
            if not as_json:
                tell_differences(found, shards, limit)
            if dry_run:
                _end_dry(found, migration_id, shards, limit, as_json)
            mending.require_rights()
            if not yes and not typer.confirm(_question(found, shards), err=True):
                raise ForeshardError("Nothing was written.")
            with _mending(len(found.rows)) as done:
                outcomes = mending.run(found.rows, done)
            with comparing() as looked:
                left = find(work, **scope, progress=looked)
    if as_json:
        show(
            {
                "migration": migration_id,
                **shards,
                "said_by": said_by,
                "outcomes": dict(Counter(one.what for one in outcomes)),
                "left": [_left(one) for one in outcomes if one.what == LEFT],
                "still": differences_document(left, limit),
            }
        )
    else:
        _tell_outcomes(outcomes)
        tell_differences(left, shards, limit)
    if not left.equal:
        raise typer.Exit(DIFFERENT)
    if outcomes and not as_json:
        out.print(
            f"`foreshard verify {migration_id}` stores that; one that failed holds finalise back until then.",
            highlight=False,
        )


@contextmanager
def or_exit(code: int) -> Iterator[None]:
    """Says what went wrong, and ends with this code, where 1 has another meaning."""
    try:
        yield
    except (OperationalError, psycopg.Error) as away:
        cause: Exception = away
        problem = ForeshardError(f"A database refused or ended it: {reason(away)}.")
    except ForeshardError as error:
        cause = problem = error
    else:
        return
    complain(problem)
    raise typer.Exit(code) from cause


@contextmanager
def comparing() -> Iterator[Callable[[TableProgress], None]]:
    """A bar of the bytes compared, on standard error, where that is a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        bar = bars.add_task("comparing")
        tables: dict[str, tuple[float, int]] = {}

        def looked(table: TableProgress) -> None:
            name = f"{table.bucket}.{table.table}"
            tables[name] = (table.done, table.total)
            done, total = (sum(column) for column in zip(*tables.values(), strict=True))
            bars.update(bar, completed=done, total=max(total, 1), description=f"comparing {escape(name)}")

        yield looked


@contextmanager
def _mending(rows: int) -> Iterator[Callable[[int], None]]:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        bar = bars.add_task("mending", total=rows)
        yield lambda count: bars.advance(bar, count)


def differences_document(found: Differences, limit: int) -> dict[str, Any]:
    """As JSON. ``rows`` are at most ``limit``; the counts are of all."""
    return {
        "equal": found.equal,
        "tables": found.tables,
        "compared_rows": found.compared_rows,
        "differing": len(found.rows),
        "undecided": found.undecided,
        "undecided_tables": list(found.undecided_tables),
        "fence_ms": round(found.fence_ms, 3),
        "rows": [_row(one) for one in found.rows[:limit]],
    }


def tell_differences(found: Differences, shards: dict[str, str], limit: int) -> None:
    """As a table, and in one line."""
    if found.rows:
        shown = found.rows[:limit]
        title = f"{len(found.rows)} row(s) differ" + (f", {limit} shown" if len(found.rows) > limit else "")
        table = Table(
            "table", "chunk", "key", "difference", "owner", "columns", title=title, title_justify="left"
        )
        for one in shown:
            owner = "disputed" if one.owner is None else shards[one.owner.value]
            table.add_row(
                escape(f"{one.bucket}.{one.table}"),
                str(one.chunk),
                escape(one.key),
                one.kind.value,
                owner if one.row else "",
                escape(", ".join(one.columns)),
            )
        out.print(table)
        for one in shown:
            _tell_values(one, shards)
    if found.undecided:
        out.print(
            f"{found.undecided} row(s) of {', '.join(found.undecided_tables)} were written too often to be judged.",
            highlight=False,
        )
    if found.equal:
        out.print(
            f"Equal: {found.compared_rows:,} rows of {found.tables} table(s) on {shards['source']} and "
            f"{shards['target']}.",
            highlight=False,
        )


def _tell_values(row: Difference, shards: dict[str, str]) -> None:
    if row.values is None:
        return
    table = Table(
        "column", *shards.values(), title=escape(f"{row.bucket}.{row.table} {row.key}"), title_justify="left"
    )
    source, target = row.values.source, row.values.target
    columns = row.columns or tuple((source or target or {}).keys())
    for column in columns:
        table.add_row(escape(column), _value(source, column), _value(target, column))
    out.print(table)


def _value(side: dict[str, str | None] | None, column: str) -> str:
    if side is None:
        return "[dim]no row[/]"
    value = side[column]
    return "[dim]NULL[/]" if value is None else escape(repr(value))


def _row(one: Difference) -> dict[str, Any]:
    row: dict[str, Any] = {
        "bucket": one.bucket,
        "table": one.table,
        "chunk": one.chunk,
        "key": one.key,
        "difference": one.kind.value,
        "owner": one.owner and one.owner.value,
        "columns": list(one.columns),
    }
    if one.values is not None:
        row["values"] = {"source": one.values.source, "target": one.values.target}
    return row


def _question(found: Differences, shards: dict[str, str]) -> str:
    into = Counter(shards[one.owner.other.value] for one in found.rows if one.owner is not None)
    counts = ", ".join(f"{count} row(s) of the copy on {shard}" for shard, count in sorted(into.items()))
    return f"Write {counts or 'nothing'}, as the owner of their keys has them?"


def _end_dry(
    found: Differences, migration_id: int, shards: dict[str, str], limit: int, as_json: bool
) -> None:
    if as_json:
        show({"migration": migration_id, **shards, "dry_run": True, **differences_document(found, limit)})
    else:
        out.print("Nothing was written (--dry-run).")
    raise typer.Exit(DIFFERENT)


def _tell_outcomes(outcomes: Sequence[RowOutcome]) -> None:
    if not outcomes:
        return
    counts = Counter(one.what for one in outcomes)
    out.print("Repair: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + ".")
    for one in outcomes:
        if one.what == LEFT:
            row = one.difference
            out.print(escape(f"left: {row.bucket}.{row.table} {row.key}: {one.why}"), highlight=False)


def _left(one: RowOutcome) -> dict[str, str]:
    row = one.difference
    return {"bucket": row.bucket, "table": row.table, "key": row.key, "why": one.why}
