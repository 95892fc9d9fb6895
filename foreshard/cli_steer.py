"""`foreshard pause, resume, abort, reverse`: a person steers a migration from a shell, whoever drives it."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.markup import escape

from foreshard.cli_output import AsJson, Comment, MigrationId, Who, err, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.lease import driver_of
from foreshard.control.migration_store import MigrationStore
from foreshard.control.progress_store import ProgressStore
from foreshard.control.request_store import RESUME, RequestRecord, RequestStore
from foreshard.control.session import session
from foreshard.errors import ForeshardError, InvalidInput, LeaseLost
from foreshard.migration import by_hand, prospect
from foreshard.migration.lifecycle import ENDS
from foreshard.migration.progress import Progress
from foreshard.migration.requests import Ask, Outcome, Ruling, Way, rule
from foreshard.quantities import amount
from foreshard.settings import Settings

commands = typer.Typer()

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would happen; ask nothing, change nothing.")
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it has happened, or only ask for it.")
]

LOOK_S = 0.5
BEGINS_WITHIN_S = 90.0
INTERRUPTED = 130


@commands.command(rich_help_panel="Operate")
def pause(
    migration_id: MigrationId,
    who: Who,
    comment: Comment = "",
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Holds a migration at its next safe point until it is resumed. Owners stay, both streams go on.

    Takes seconds; a cutover that has begun is ended first. A copy that is held for more than ten minutes may have to
    begin anew. While it is held the janitor looks after the WAL that its streams keep.

    Example: foreshard pause 3 --as Ada --comment "batch jobs until noon"
    """
    _steer(migration_id, Ask.PAUSE, who, comment, wait, dry_run, as_json)


@commands.command(rich_help_panel="Operate")
def resume(
    migration_id: MigrationId,
    who: Who,
    comment: Comment = "",
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Goes on with a paused migration, as the Resume button of its run does. Takes back a pause that is not held yet.

    Waits until a run drives it. Without Prefect it is stored, and the janitor goes on when Prefect is back.

    Example: foreshard resume 3 --as Ada
    """
    _steer(migration_id, Ask.RESUME, who, comment, wait, dry_run, as_json)


@commands.command(rich_help_panel="Operate")
def abort(
    migration_id: MigrationId,
    who: Who,
    comment: Comment = "",
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Gives a migration up before its cutover: the source owns everything, the target's copy is removed.

    A run that drives it does so at its next safe point; without one it is done here. A target that is gone for good is
    left out if it owns nothing; the janitor cleans it should it come back. After the cutover: foreshard reverse.

    Example: foreshard abort 3 --as Ada --dry-run
    """
    _steer(migration_id, Ask.ABORT, who, comment, wait, dry_run, as_json)


@commands.command(rich_help_panel="Operate")
def reverse(
    migration_id: MigrationId,
    who: Who,
    comment: Comment = "",
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Takes a migration back without losing a write, at any time until finalise has begun.

    Before the cutover it is an abort. A run that drives it does so at its next safe point; without one it is done here.

    Example: foreshard reverse 3 --as Ada --comment "latency on shard-4"
    """
    _steer(migration_id, Ask.REVERSE, who, comment, wait, dry_run, as_json)


def _steer(
    migration_id: int, kind: Ask, who: str, comment: str, wait: bool, dry_run: bool, as_json: bool
) -> None:
    if not who.strip():
        raise InvalidInput("--as", "is empty.", remedy="Say who asks.")
    with session() as (settings, control):
        if dry_run:
            _foresee(control, migration_id, kind, as_json)
            return
        waiting_run = MigrationStore(control).get(migration_id).flow_run_id
        asked, ruling = RequestStore(control).ask(migration_id, kind, who, comment, Way.SHELL)
        if ruling is Ruling.SAME:
            err.print(f"Asked already: {escape(asked.in_words)}.", highlight=False)
        note = ""
        try:
            if kind is Ask.RESUME:
                from deployments import steering

                told, note = steering.go_on(settings, control, migration_id, who)
                if told and wait:
                    _await_driver(control, migration_id)
            elif wait:
                note = _await(settings, control, asked, waiting_run)
        except KeyboardInterrupt:
            back = f" `foreshard resume {migration_id} --as NAME` takes it back." if kind is Ask.PAUSE else ""
            err.print(f"\nNot waited for any longer; the request stands.{back}", highlight=False)
            raise typer.Exit(INTERRUPTED) from None
        _tell(control, RequestStore(control).get(asked.id), kind, note, as_json)


def _foresee(control: ControlDatabase, migration_id: int, kind: Ask, as_json: bool) -> None:
    store = MigrationStore(control)
    record, open_ = store.get(migration_id), RequestStore(control).open(migration_id)
    ruling = rule(migration_id, record.stage, None if open_ is None else open_.kind, kind)
    document = prospect.foresee(
        record, kind, ruling, open_, driver_of(control, migration_id), store.resources(migration_id),
        FlipStore(control).flips(migration_id),
    )  # fmt: skip
    if as_json:
        show(document)
        return
    for line in prospect.in_words(document, record.source, record.target):
        out.print(line, highlight=False, markup=False)
    out.print("Dry run: nothing was asked.")


def _await(
    settings: Settings, control: ControlDatabase, asked: RequestRecord, waiting_run: str | None
) -> str:
    """Until it has happened; what nobody drives is given back here. Returns a note.

    Raises:
        ForeshardError: it was refused by what was found.
    """
    requests, store = RequestStore(control), MigrationStore(control)
    line = _Line()
    while True:
        now = requests.get(asked.id)
        if now.outcome is Outcome.REFUSED:
            raise ForeshardError(f"Migration {asked.migration}: {now.kind} was refused. {now.settlement}")
        if now.outcome is not None or now.held_at is not None:
            return ""
        driver = driver_of(control, asked.migration)
        if driver is None and now.kind.gives_back:
            try:
                found = by_hand.give_back(control, settings, now, line.report)
            except LeaseLost:  # somebody else was faster
                continue
            return f"{found.get('note', '')} {_cancel(settings, now, waiting_run)}".strip()
        line.say(_present(control, store, asked.migration, driver))
        time.sleep(LOOK_S)


def _await_driver(control: ControlDatabase, migration_id: int) -> None:
    """Until somebody drives it, or it has come to something else that it waits for; a while at the longest."""
    line, store, deadline = _Line(), MigrationStore(control), time.monotonic() + BEGINS_WITHIN_S
    while driver_of(control, migration_id) is None and time.monotonic() < deadline:
        record = store.get(migration_id)
        if record.stage in ENDS or record.waiting_for not in (None, RESUME):
            return
        line.say("Waiting for its run to begin")
        time.sleep(LOOK_S)


def _cancel(settings: Settings, asked: RequestRecord, waiting_run: str | None) -> str:
    """Of a run that waited for a person: there is nothing to approve or to resume any more."""
    if waiting_run is None:
        return ""
    from deployments import steering

    message = f"Migration {asked.migration} was given back from a shell: {asked.in_words}."
    return steering.cancel_waiting(settings, waiting_run, message)


def _present(control: ControlDatabase, store: MigrationStore, migration_id: int, driver: str | None) -> str:
    """What the driver is at."""
    stage = store.get(migration_id).stage
    if driver is None:
        return f"{stage}: nobody drives it"
    kept = ProgressStore(control).of(migration_id)
    at = f", {kept[-1].document['text']}" if kept else ""
    return f"{stage}{at}: waiting for {driver} to come to a safe point"


class _Line:
    """Says what is new on standard error, a line each."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, text: str) -> None:
        if text != self._last:
            self._last = text
            err.print(text, highlight=False, markup=False)

    def report(self, progress: Progress) -> None:
        done, total = amount(progress.done, progress.unit), amount(progress.total, progress.unit)
        self.say(f"{progress.text}: {done} of {total}")


def _tell(control: ControlDatabase, asked: RequestRecord, kind: Ask, note: str, as_json: bool) -> None:
    record = MigrationStore(control).get(asked.migration)
    if as_json:
        detail = MigrationStore(control).stage_runs(asked.migration)
        show(
            {
                "migration": record.id,
                "stage": record.stage.value,
                "asked": kind.value,
                "request": asked.id,
                "asked_by": asked.asked_by,
                "held": asked.held_at is not None and asked.outcome is None,
                "outcome": None if asked.outcome is None else asked.outcome.value,
                "note": note,
                **({"found": detail[-1].detail} if record.stage in ENDS and detail else {}),
            }
        )
        return
    text = _in_words(record.id, record.stage.value, asked, kind)
    out.print(
        f"{text} {note[:1].upper()}{note[1:]}{'.' if note else ''}".strip(), highlight=False, markup=False
    )


def _in_words(number: int, stage: str, asked: RequestRecord, kind: Ask) -> str:
    if kind is Ask.RESUME:
        return f"Migration {number} is resumed at {stage}."
    if asked.outcome is Outcome.DONE:
        return f"Migration {number} is {stage}: the source owns all its keys."
    if asked.outcome is not None:
        return f"Migration {number} is at {stage}: {asked.kind} was {asked.outcome} by {asked.settled_by}."
    if asked.held_at is not None:
        return f"Migration {number} is paused at {stage}. foreshard resume {number} --as NAME goes on."
    return f"Migration {number} is at {stage}; {asked.kind} is asked for and done at its next safe point."
