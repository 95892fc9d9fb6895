"""The commands of approvals: answer one, see what happened, and who has a token."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from foreshard.approvers import TOKEN_VARIABLE, approver_name, comment_text
from foreshard.cli_output import AsJson, Comment, MigrationId, Who, err, out, show
from foreshard.control.approval_store import ApprovalRecord, ApprovalStore
from foreshard.control.approval_trail import EventRecord
from foreshard.control.approver_store import ApproverStore
from foreshard.control.flip_store import FlipStore, GateRecord
from foreshard.control.migration_store import MigrationStore
from foreshard.control.session import session
from foreshard.errors import InvalidInput
from foreshard.quantities import duration

commands = typer.Typer()
approver_app = typer.Typer(no_args_is_help=True, help="Approvers: people who prove their answers by a token.")

TokenFile = Annotated[
    Path | None,
    typer.Option(
        help=f"A file that holds your token. [default: the variable {TOKEN_VARIABLE}, else asked for]"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what waits and its evidence; answer nothing.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The approver's name, as it is given in answers.")]


@commands.command(rich_help_panel="Decide")
def approve(
    migration_id: MigrationId,
    approver: Who,
    comment: Comment = "",
    token_file: TokenFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Approves the flip that a migration waits for, as the form in the UI does.

    The checks run once more, then the flip happens. A token never goes to Prefect: a voucher for this answer does.

    Examples: foreshard approve 3 --as Ada --comment 'looked at it' · foreshard approve 3 --as Ada --dry-run
    """
    _answer(migration_id, True, approver, comment, token_file, dry_run, as_json)


@commands.command(rich_help_panel="Decide")
def reject(
    migration_id: MigrationId,
    approver: Who,
    comment: Comment = "",
    token_file: TokenFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Rejects it: everything is undone, the source keeps all keys.

    Example: foreshard reject 3 --as Ada --comment 'not before the sale ends'
    """
    _answer(migration_id, False, approver, comment, token_file, dry_run, as_json)


@commands.command(rich_help_panel="Look")
def approvals(
    migration_id: Annotated[
        int | None, typer.Argument(min=1, metavar="[MIGRATION]", help="One migration; without it, all.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest lines.")] = 100,
    as_json: AsJson = False,
) -> None:
    """What was asked and answered before flips, by whom and by which way; and where nobody was asked, why.

    The trail only grows: the control database refuses every change of it. Oldest first.

    Examples: foreshard approvals · foreshard approvals 3 --json
    """
    with session() as (_, control):
        if migration_id is not None:
            MigrationStore(control).get(migration_id)
        events = ApprovalStore(control).events(migration_id, limit)
    if as_json:
        show([asdict(event) for event in events])
    elif events:
        out.print(_trail(events))
    else:
        out.print("Nobody was asked about a flip yet.")


@approver_app.command("add")
def approver_add(name: Name, as_json: AsJson = False) -> None:
    """Gives somebody a token and prints it, this once: only a hash of it is kept.

    From now on answers in that name need it, in the UI as in the shell.

    Example: foreshard approver add 'Ada Lovelace'
    """
    with session() as (_, control):
        record, token = ApproverStore(control).add(name)
    if as_json:
        show({"name": record.name, "token": token, "added_at": record.added_at})
        return
    err.print(
        f"The token of {escape(record.name)}, which is shown this once (in {TOKEN_VARIABLE} or a file, `foreshard "
        "approve` finds it):",
        highlight=False,
        soft_wrap=True,
    )
    sys.stdout.write(f"{token}\n")


@approver_app.command("list")
def approver_list(as_json: AsJson = False) -> None:
    """Who has a token, and whose was revoked.

    Example: foreshard approver list --json
    """
    with session() as (settings, control):
        found = ApproverStore(control).all()
    if as_json:
        show([asdict(one) for one in found])
        return
    table = Table(Column("approver", overflow="fold"), "since (UTC)", "revoked (UTC)")
    for one in found:
        revoked = "" if one.revoked_at is None else f"[red]{one.revoked_at:%Y-%m-%d %H:%M}[/]"
        table.add_row(escape(one.name), f"{one.added_at:%Y-%m-%d %H:%M}", revoked)
    out.print(table if found else "Nobody has a token.")
    others = {
        "required": "Nobody else may answer (approval.tokens).",
        "optional": 'Everybody else answers by name only (approval.tokens = "optional").',
    }
    out.print(others[settings.approval.tokens], highlight=False)


@approver_app.command("revoke")
def approver_revoke(name: Name, as_json: AsJson = False) -> None:
    """Ends a token. Answers in that name are refused until the approver is added again.

    Example: foreshard approver revoke 'Ada Lovelace'
    """
    with session() as (_, control):
        record = ApproverStore(control).revoke(name)
    if as_json:
        show(asdict(record))
    else:
        out.print(f"The token of {record.name} counts no more.", markup=False, highlight=False)


def _answer(
    migration_id: int,
    yes: bool,
    approver: str,
    comment: str,
    token_file: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    from deployments import answering, prefect_client

    name = approver_name(approver, "--as")
    comment = comment_text(comment, "--comment")
    with session() as (settings, control):
        needs = ApproverStore(control).needs_token(name, settings.approval.tokens)
        if dry_run:
            _, attempt = answering.waiting(control, migration_id)
            gates = {gate.id: gate for gate in FlipStore(control).gates(migration_id)}
            left = ApprovalStore(control).remaining_s(attempt.id)
            _show_question(attempt, gates.get(attempt.gate_run_id or 0), left, name, needs, as_json)
            return
        prefect_client.use(settings)
        answering.waiting(control, migration_id)  # before a token is asked for
        token = _token(name, token_file) if needs or token_file else None
        attempt, verified = answering.answer(
            control, settings, migration_id, approve=yes, approver=name, comment=comment, token=token, way="cli"
        )  # fmt: skip
    if as_json:
        show(
            {
                "migration": migration_id,
                "flip": attempt.flip_no,
                "attempt": attempt.id,
                "decision": "approve" if yes else "reject",
                "approver": name,
                "verified": verified,
            }
        )
        return
    out.print(
        f"{'Approved' if yes else 'Rejected'}: flip {attempt.flip_no} of migration {migration_id}, by {name} "
        f"({'by token' if verified else 'by name only'}). The flow goes on within seconds.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _token(name: str, file: Path | None) -> str:
    """Never from the arguments: every process of the machine sees those."""
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as unreadable:
            reason = getattr(unreadable, "strerror", None) or "it is not text"
            raise InvalidInput("--token-file", f"{file} cannot be read ({reason}).") from None
    elif os.environ.get(TOKEN_VARIABLE):
        token = os.environ[TOKEN_VARIABLE].strip()
    elif sys.stdin.isatty():
        token = typer.prompt(f"Token of {name}", hide_input=True, err=True).strip()
    else:
        token = ""
    if not token:
        raise InvalidInput(
            "--token-file",
            f"{name} must give a token, and there is none.",
            remedy=f"Name a file that holds it, or set {TOKEN_VARIABLE}.",
        )
    return token


def _show_question(
    attempt: ApprovalRecord, gate: GateRecord | None, left_s: float, name: str, needs: bool, as_json: bool
) -> None:
    if as_json:
        show(
            {
                "attempt": asdict(attempt),
                "checks": gate and asdict(gate),
                "needs_token": needs,
                "left_s": left_s,
            }
        )
        return
    table = Table(show_header=False, title=f"Migration {attempt.migration} waits", title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows: list[tuple[str, Any]] = [
        ("flip", attempt.flip_no),
        (
            "attempt",
            f"{attempt.id}, asked at {attempt.requested_at:%Y-%m-%d %H:%M:%S} UTC, form {attempt.form}",
        ),
        ("asked because", attempt.why),
        ("expires", f"{attempt.expires_at:%Y-%m-%d %H:%M:%S} UTC, in {duration(left_s)}"),
        ("flow run", attempt.flow_run_id),
        (f"{name} needs", "a token" if needs else "no token"),
    ]
    if gate is not None:
        warnings = gate.verdict.get("warnings", [])
        compared = gate.verdict.get("compared") or {}
        rows += [
            (
                "checks",
                f"{'go' if gate.passed else 'NO'}, {gate.evaluated} of {gate.expected} evaluated, {gate.failed} failed,"
                f" {len(warnings)} warnings, at {gate.made_at:%Y-%m-%d %H:%M:%S} UTC",
            ),
            *([("compared", f"{compared['rows']:,} rows")] if compared else []),
            *(
                (f"warning {number}", f"{one['table']}: {one['what']}")
                for number, one in enumerate(warnings, 1)
            ),
            ("evidence", f"sha256 {gate.evidence_sha256}"),
        ]
    for what, text in rows:
        table.add_row(escape(str(what)), escape(str(text)))
    out.print(table)
    out.print("Nothing was answered.")


def _trail(events: Sequence[EventRecord]) -> Table:
    colours = {"approved": "green", "rejected": "red", "refused": "yellow", "wrong_token": "yellow"}
    table = Table(
        "at (UTC)", "migration", "flip", "attempt", "event", "by", "way", Column("why, comment", overflow="fold"),
        "checks", "evidence",
    )  # fmt: skip
    for one in events:
        event = one.event.replace("_", " ")
        colour = colours.get(one.event)
        who = escape(one.approver) + (" [green](token)[/]" if one.verified and one.approver else "")
        table.add_row(
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            str(one.migration),
            str(one.flip_no),
            "" if one.attempt is None else str(one.attempt),
            f"[{colour}]{event}[/]" if colour else event,
            who,
            one.way,
            escape(". ".join(text for text in (one.why.rstrip("."), one.comment) if text)),
            "" if one.gate_run_id is None else str(one.gate_run_id),
            one.evidence_sha256[:12],
        )
    return table
