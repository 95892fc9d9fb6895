"""Commands about the fleet itself: taking one over, and its shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import OperationalError

from foreshard.adoption.changes import Adoption, Topology, plan_adoption
from foreshard.adoption.description import FleetDescription, read_description
from foreshard.adoption.inspection import Report, inspect, look_up
from foreshard.adoption.installation import install
from foreshard.adoption.report import AdoptionReport, make_report
from foreshard.cli_adoption import print_changes, print_report
from foreshard.cli_output import AsJson, err, out, show
from foreshard.control.adoption_store import AdoptionStore
from foreshard.control.session import session
from foreshard.errors import ConfigurationError, ForeshardError

commands = typer.Typer()


@commands.command(rich_help_panel="Fleet")
def adopt(
    file: Annotated[Path, typer.Argument(help="Description of the fleet (TOML), see below.")],
    write: Annotated[
        bool,
        typer.Option(
            "--write/--dry-run", help="Write the topology to the control database; else only look and tell."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Takes over a fleet that is there: looks at every shard, says what can be moved and what stands in the way.

    A dry run needs the file and the shards, nothing else, and changes nothing. --write then installs Foreshard's
    functions into schema foreshard of every shard and writes the topology, unless it would not be true. Run it again
    at any time: it shows what is different.

    Exit codes: 0 all can be moved, 1 something cannot or nothing was written, 2 the file cannot be used.

    A file:

    \b
      key_type = "int8"        # int2, int4, int8, text, uuid, bytea
      \\[bucketing]
      kind = "hash"            # "directory": dsn, table, key_column,
      \\[buckets]               # bucket_column; "callable": function
      pattern = "tenant_%"     # or names = \\["b0", "b1"]: for hash their
      \\[tables]                # order is the number (pattern: sorted)
      orders = "customer_id"   # distribution column of every table
      \\[shards.shard-1]
      dsn = "host=db1 dbname=app user=foreshard passfile=/etc/pgpass"
      application_dsn = "host=db1 dbname=app user=app passfile=/etc/pgpass"
      capacity = { queries_per_s = 1000 }

    Examples: foreshard adopt fleet.toml · foreshard adopt fleet.toml --json · foreshard adopt fleet.toml --write
    """
    description = read_description(file)
    with progress() as report_progress:
        shards = inspect(description, report_progress)
        keys = sorted({key for shard in shards for found in shard.keys.values() for key in found}, key=str)
        bucketing = description.bucketing.bucketing()
        lookup = look_up(bucketing, keys, description.key_type, report_progress)
    report = make_report(description, shards, lookup)
    if write:
        adoption, note = _write(description, report), ""
    else:
        present, note = _present()
        adoption = plan_adoption(description, report, present)
    if as_json:
        show(_document(report, adoption, written=write and not adoption.refusals, note=note))
    else:
        _tell(report, adoption, write, file, note)
    if not report.all_movable or adoption.refusals:
        raise typer.Exit(1)


def _write(description: FleetDescription, report: AdoptionReport) -> Adoption:
    with session() as (_, control):
        if not report.untrue:  # before routers learn of the shards
            with progress() as report_progress:
                install(description.shards, report_progress)
        return AdoptionStore(control).write(description, report)


def _present() -> tuple[Topology | None, str]:
    """What the control database holds, or why it is not known: a dry run goes without one."""
    try:
        with session() as (_, control):
            return AdoptionStore(control).present(), ""
    except ConfigurationError:
        return None, "No control database is set; against an empty one this would be written:"
    except (ForeshardError, OperationalError, psycopg.OperationalError):
        return None, "The control database does not answer; against an empty one this would be written:"


def _tell(report: AdoptionReport, adoption: Adoption, write: bool, file: Path, note: str) -> None:
    print_report(report, out)
    if adoption.refusals:
        first = adoption.refusals[0]
        more = f" and {len(adoption.refusals) - 1} more" if len(adoption.refusals) > 1 else ""
        out.print(
            f"[red]{'Nothing was written' if write else '--write would refuse'}:[/] "
            f"{escape(first.subject)} {escape(first.why)}{more}. The topology would not be true.",
            highlight=False,
        )
        return
    if not adoption.changes:
        out.print("The control database says so already: nothing to write.")
        return
    out.print("\nWritten to the control database:" if write else f"\n{note or '--write would change:'}")
    print_changes(adoption.changes, out)
    if not write:
        out.print(
            f"Nothing was written. `foreshard adopt {file} --write` does.", highlight=False, soft_wrap=True
        )


def _document(report: AdoptionReport, adoption: Adoption, *, written: bool, note: str) -> dict[str, Any]:
    return {
        "all_movable": report.all_movable,
        "shards": [
            {"name": one.name, "away": one.away, "version": one.version, "buckets": len(one.buckets)}
            for one in report.shards
        ],
        "findings": [asdict(finding) for finding in report.findings],
        "buckets": [asdict(bucket) for bucket in report.buckets],
        "sampled_keys": report.sampled,
        "changes": [asdict(change) for change in adoption.changes],
        "refusals": [asdict(finding) for finding in adoption.refusals],
        "compared_with": note or "the control database",
        "written": written,
    }


@contextmanager
def progress() -> Iterator[Report]:
    """A line for each shard that is being looked at, on standard error, where that is a terminal."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(name: str, step: str) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=None)
            bars.update(tasks[name], description=f"{name}: {step}")

        yield report
