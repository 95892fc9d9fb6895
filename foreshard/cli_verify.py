"""`foreshard verify`: what the flow `verify` does, from the shell."""

from __future__ import annotations

import getpass
import socket
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from foreshard.cli_check import comparing, or_exit
from foreshard.cli_output import AsJson, out, show
from foreshard.control.session import session
from foreshard.control.verification_store import VerificationRecord
from foreshard.errors import InvalidInput
from foreshard.migration import verification

commands = typer.Typer()

FAILED, NOT_MADE = 1, 2
SHOWN = 20


@commands.command(rich_help_panel="Operate")
def verify(
    migration_id: Annotated[
        int | None, typer.Argument(min=1, help="Number of the migration; without it, all that are cut over.")
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="One bucket, whether it moves or not.")] = None,
    as_json: AsJson = False,
) -> None:
    """Looks whether the copies of a migration are equal, or a bucket at rest in order, and stores the verdict.

    A migration whose newest verification failed is not finalised until one passes. A bucket that does not move must
    stand where the routing map says and nowhere else, with no invalid index, NOT VALID constraint, disabled trigger,
    sequence that is behind, or remains of a migration. Changes nothing on any shard.

    Exit code: 0 passed, 1 failed, 2 it could not be made (which is no verdict).

    Examples: foreshard verify · foreshard verify 3 · foreshard verify --bucket b0007 --json
    """
    if migration_id is not None and bucket is not None:
        raise InvalidInput("MIGRATION, --bucket", "give one of the two, or none.")
    made_by = f"{getpass.getuser()} on {socket.gethostname()}"
    records: list[VerificationRecord] = []
    with or_exit(NOT_MADE), session() as (settings, control), comparing() as looked:
        if bucket is not None:
            records = [verification.verify_bucket(control, settings, bucket, made_by, progress=looked)]
        else:
            numbers = (
                [migration_id]
                if migration_id is not None
                else [one.id for one in verification.standing(control)]
            )
            records = [
                verification.verify_migration(control, settings, number, made_by, progress=looked)
                for number in numbers
            ]
    if as_json:
        show([asdict(one) for one in records])
    elif not records:
        out.print("No migration stands between its cutover and finalise: there is nothing to verify.")
    else:
        for one in records:
            _tell(one)
    if any(one.passed is False for one in records):
        raise typer.Exit(FAILED)
    if any(one.passed is None for one in records):
        raise typer.Exit(NOT_MADE)


def _tell(one: VerificationRecord) -> None:
    what = f"migration {one.migration}" if one.migration is not None else ""
    what = " ".join(part for part in (what, f"bucket {one.bucket}" if one.bucket else "") if part)
    out.print(escape(f"Verification {one.id} of {what}: {one.in_words}."), highlight=False)
    for finding in one.findings[:SHOWN]:
        out.print(escape(f"  {finding['what']}"), highlight=False)
    if len(one.findings) > SHOWN:
        out.print(f"  and {len(one.findings) - SHOWN} more (--json shows all)")
