"""`foreshard load import log`: the query log of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg.conninfo import conninfo_to_dict
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from foreshard.cli_output import AsJson, err, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_import import undropped
from foreshard.control.load_store import LoadStore
from foreshard.control.log_position import LogPositionStore
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput
from foreshard.load.query_log.file import find_files
from foreshard.load.query_log.reading import Position, Reading, Server
from foreshard.load.sample import Sample

commands = typer.Typer()
_SHOWN = 20


@commands.command("log")
def load_import_log(
    files: Annotated[
        list[Path], typer.Argument(help="jsonlog or csvlog, plain or gzipped, or its directory.")
    ],
    shard: Annotated[str, typer.Option(help="The shard whose server wrote it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and tell, store nothing.")] = False,
    sampled: Annotated[
        float, typer.Option(help="Share of the statements that the server logs (log_statement_sample_rate).")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Rates and latencies of a shard and its buckets, minute by minute, from the server's query log.

    Run it again whenever the log has grown: it goes on where it stopped, also in files that were renamed or gzipped
    since. Nothing is counted twice, and no text of a statement is stored. A minute that is not over yet is left for the
    next time; one in which the server was down is a gap.

    Examples: foreshard load import log --shard shard-1 /var/log/postgresql/*.json* --dry-run
    """
    if not 0 < sampled <= 1:
        raise InvalidInput("--sampled", "is a share above 0, at most 1.")
    with session() as (settings, control):
        clock = settings.clock.fleet_clock()
        server = server_of(control, shard)
        found, others = find_files(files)
        positions = LogPositionStore(control)
        reading = Reading(server, found, 1 / sampled, positions.position(shard))
        stored = [0, 0]
        load = LoadStore(control)

        def store(samples: Sequence[Sample], position: Position) -> None:
            stored[0] += len(samples)
            if not dry_run:
                told = [replace(one, ts=clock.from_real(one.ts)) for one in samples]
                stored[1] += load.add(told, "history")
                if position:
                    positions.put(shard, position)

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        bars = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        with undropped(control), bars:
            bar = bars.add_task(f"{shard}'s log", total=reading.bytes)
            reading.run(store, lambda more: bars.advance(bar, more))
    document = _document(reading, stored, others, sampled, dry_run)
    if as_json:
        show(document)
    else:
        _tell(reading, document)


def server_of(control: ControlDatabase, shard: str) -> Server:
    """What must be known of a shard to read its log.

    Raises:
        NotFound: the fleet has no such shard.
        InvalidInput: its DSN names no database.
    """
    topology = TopologyStore(control)
    parts = conninfo_to_dict(topology.shard(shard).dsn)
    database = parts.get("dbname") or parts.get("user")
    if not database:
        raise InvalidInput(
            "--shard", f"the DSN of {shard} names no database, and a log holds all of a server's."
        )
    known = [bucket.name for bucket in topology.buckets()]
    return Server(shard, str(database), known, topology.placement().buckets_on(shard))


def _document(
    reading: Reading, stored: Sequence[int], others: Sequence[Path], sampled: float, dry_run: bool
) -> dict[str, Any]:
    totals = reading.counting.totals
    return {
        **asdict(reading.told),
        "other_files": [str(path) for path in others],
        "sampled": sampled,
        "minutes": reading.counting.minutes,
        "samples": stored[0],
        "new_samples": None if dry_run else stored[1],
        "load": [
            {
                "bucket": bucket,
                "statements": round(total.count / sampled),
                "seconds": round(total.seconds / sampled, 6),
                "p95_s": round(total.quantile(0.95), 6) if total.bins else None,
            }
            for bucket, total in sorted(
                totals.items(), key=lambda item: (item[0] is not None, -item[1].seconds)
            )
        ],
    }


def _tell(reading: Reading, document: dict[str, Any]) -> None:
    told = reading.told
    table = Table("bucket", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("statements", "seconds", "mean ms", "p95 ms"):
        table.add_column(name, justify="right")
    for one in document["load"][: _SHOWN + 1]:
        mean = f"{1000 * one['seconds'] / one['statements']:.3f}" if one["statements"] else ""
        p95 = f"{1000 * one['p95_s']:.3f}" if one["p95_s"] is not None else ""
        name = "[bold]all of the shard[/]" if one["bucket"] is None else escape(one["bucket"])
        table.add_row(name, f"{one['statements']:,}", f"{one['seconds']:,.1f}", mean, p95)
    if document["load"]:
        out.print(table)
    hidden = len(document["load"]) - _SHOWN - 1
    say = [f"and {hidden} more buckets (--json tells all)."] if hidden > 0 else []
    if document["sampled"] < 1:
        say.append(
            f"Each logged statement stands for {1 / document['sampled']:g}: --sampled {document['sampled']:g}."
        )
    say.append(
        f"{told.records:,} records, {told.counted:,} statements, {document['minutes']:,} whole minutes."
    )
    for count, words in (
        (told.skipped, "files were read before"),
        (told.bare, "durations stand without their statement and were not counted"),
        (told.late, "statements came after their minute had been told and were not counted"),
        (told.unreadable, f"records could not be read, the first in {told.first_unreadable}"),
        (told.unfinished, "bytes of a last line are left for the next time"),
        (len(document["other_files"]), "files hold no records of a jsonlog or csvlog"),
    ):
        if count:
            say.append(f"{count:,} {words}.")
    say += [
        f"{name}: read as far as it goes; run again when it is whole, or leave it out."
        for name in told.broken
    ]
    new = document["new_samples"]
    say.append(
        "Nothing was stored." if new is None else f"{new:,} of {document['samples']:,} samples were new."
    )
    out.print("\n".join(say), markup=False, highlight=False, soft_wrap=True)
