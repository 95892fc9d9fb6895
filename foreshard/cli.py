"""The command line. Exit codes: 0 done, 1 it failed, 2 what was given cannot be used."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.table import Table
from sqlalchemy.exc import OperationalError

from foreshard.cli_approval import approver_app
from foreshard.cli_approval import commands as approval_commands
from foreshard.cli_automations import automations_app
from foreshard.cli_calendar import calendar_app
from foreshard.cli_check import check_app
from foreshard.cli_check_docs import commands as check_docs_commands
from foreshard.cli_check_suites import commands as check_suites_commands
from foreshard.cli_doctor import commands as doctor_commands
from foreshard.cli_fleet import commands as fleet_commands
from foreshard.cli_forecast import commands as forecast_commands
from foreshard.cli_load import load_app
from foreshard.cli_metrics import commands as metrics_commands
from foreshard.cli_migration_shadow import commands as shadow_commands
from foreshard.cli_migration_show import in_words, migration_app
from foreshard.cli_migrations import commands as migration_commands
from foreshard.cli_output import AsJson, complain, out, reason, show
from foreshard.cli_pgbouncer import pgbouncer_app
from foreshard.cli_plan import plan_app
from foreshard.cli_policy import policy_app
from foreshard.cli_routers import commands as router_commands
from foreshard.cli_serve import commands as serve_commands
from foreshard.cli_shards import shard_app
from foreshard.cli_simulate import commands as simulate_commands
from foreshard.cli_steer import commands as steer_commands
from foreshard.cli_verify import commands as verify_commands
from foreshard.cli_watch import commands as watch_commands
from foreshard.cli_what_if import commands as what_if_commands
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_store import PlanStore
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ForeshardError, InvalidInput
from foreshard.postgres import passwords
from foreshard.settings import STATE_DIR


class Commands(typer.core.TyperGroup):
    """Turns Foreshard's errors into one line in red and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        passwords.read_blocks_by(_secret_block)
        try:
            return super().invoke(ctx)
        except ForeshardError as error:
            fail(error)
        except (OperationalError, psycopg.OperationalError) as error:
            fail(
                ForeshardError(
                    f"A database does not answer: {reason(error)}.", remedy="`foreshard doctor` looks closer."
                )
            )


def _secret_block(name: str) -> str:
    from deployments import prefect_client

    return prefect_client.secret_block(name)


def fail(error: ForeshardError) -> None:
    """Says what is wrong and what to do, and ends the process."""
    complain(error)
    raise typer.Exit(2 if isinstance(error, InvalidInput) else 1)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Forecasts shard load and moves buckets of PostgreSQL before a shard saturates.",
    epilog="Examples: foreshard demo · foreshard status · foreshard plan explain 1 · foreshard approve 1 --as Ada",
)
app.add_typer(plan_app, name="plan")
app.add_typer(policy_app, name="policy")
migration_app.add_typer(shadow_commands)
app.add_typer(migration_app, name="migration")
app.add_typer(shard_app, name="shard")
app.add_typer(load_app, name="load")
app.add_typer(calendar_app, name="calendar")
app.add_typer(pgbouncer_app, name="pgbouncer")
check_app.add_typer(check_docs_commands)
check_app.add_typer(check_suites_commands)
app.add_typer(check_app, name="check")
app.add_typer(automations_app, name="automations")
app.add_typer(verify_commands)
app.add_typer(approval_commands)
app.add_typer(approver_app, name="approver")
app.add_typer(migration_commands)
app.add_typer(steer_commands)
app.add_typer(watch_commands)
app.add_typer(fleet_commands)
app.add_typer(router_commands)
app.add_typer(serve_commands)
app.add_typer(doctor_commands)
app.add_typer(forecast_commands)
app.add_typer(what_if_commands)
app.add_typer(simulate_commands)
app.add_typer(metrics_commands)


@app.command(rich_help_panel="Demo")
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Approve by itself and end when the migration is done.")
    ] = False,
    kill: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Kill the migration at these failpoints: backfill,flip_closed."),
    ] = "",
    state_dir: Annotated[Path, typer.Option(help="Where everything of the demo stands.")] = Path(STATE_DIR),
) -> None:
    """The whole loop on five real servers: forecast, decide, migrate, under load.

    Waits for your approval in the Prefect UI and stays up until Ctrl-C. Begins with a fresh fleet every time.
    """
    from deployments.demo import run

    raise typer.Exit(run(state_dir, once=once, failpoints=kill, console=out))


@app.command(rich_help_panel="Demo")
def down(state_dir: Annotated[Path, typer.Option(help="Where the demo stands.")] = Path(STATE_DIR)) -> None:
    """Stops everything that a demo left running and removes its data."""
    from deployments.stack import tear_down

    tear_down(state_dir)
    out.print("Nothing of the demo runs any more, and its data is removed.")


@app.command(rich_help_panel="Look")
def status(as_json: AsJson = False) -> None:
    """Shards with their load in the last minutes, plans that wait, and migrations under way."""
    with session() as (settings, control):
        topology = TopologyStore(control)
        placement = topology.placement()
        shards = topology.shards()
        present = LoadStore(control).present(settings.clock.fleet_clock().now()).shards
        proposed = [record.id for record in PlanStore(control).all() if record.state == "proposed"]
        live = MigrationStore(control).live()
    if as_json:
        rows = [
            {
                "name": shard.name,
                "buckets": list(placement.buckets_on(shard.name)),
                "draining": shard.draining,
                "capacity": dict(shard.capacity),
                "present": dict(present.get(shard.name, {})),
            }
            for shard in shards
        ]
        show({"shards": rows, "proposed_plans": proposed, "migrations": [asdict(one) for one in live]})
        return
    metrics = sorted({metric for shard in shards for metric in shard.load_capacity})
    table = Table("shard", "buckets", *metrics, title="Load now, of capacity", title_justify="left")
    for shard in shards:
        load = present.get(shard.name, {})
        shares = [
            f"{load[metric] / shard.capacity[metric]:.0%}"
            if metric in load and metric in shard.capacity
            else "?"
            for metric in metrics
        ]
        name = f"{shard.name} (draining)" if shard.draining else shard.name
        table.add_row(name, str(len(placement.buckets_on(shard.name))), *shares)
    out.print(table)
    if proposed:
        out.print(
            f"Plans that wait: {', '.join(map(str, proposed))} (foreshard plan explain N).", highlight=False
        )
    for migration in live:
        out.print(f"Migration {migration.id}: {in_words(migration)}", highlight=False)
    if not live:
        out.print("No migration is under way.")


class For(StrEnum):
    """What the roles are for."""

    SHARD = "shard"
    CONTROL = "control"
    APPLICATION = "application"
    DIRECTORY = "directory"


@app.command(rich_help_panel="Operate")
def grants(
    sql: Annotated[bool, typer.Option("--sql", help="Print the script itself, nothing else.")] = False,
    where: Annotated[
        For,
        typer.Option(
            "--for",
            help="Every shard; the control database's server; routers that read the map in the control database; "
            "a directory of keys.",
        ),
    ] = For.SHARD,
    operator: Annotated[str, typer.Option(help="Role that moves buckets.")] = "foreshard",
    owner: Annotated[
        list[str] | None,
        typer.Option(
            help="Role that owns buckets and their tables; repeat it for several. [default: airline]"
        ),
    ] = None,
    application: Annotated[
        list[str] | None,
        typer.Option(help="Role that reads and writes them; may be repeated. [default: airline_app]"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="Database of the shard [default: airline], or the control database [foreshard]."),
    ] = None,
    scheduler: Annotated[
        str, typer.Option(help="Prefect's role and database, with --for control; '' if they are elsewhere.")
    ] = "prefect",
    shadow: Annotated[
        str | None,
        typer.Option(help="Role that repeats reads on copies, with --for shard; none without it."),
    ] = None,
    table: Annotated[str, typer.Option(help="The directory, as one writes it in SQL.")] = "",
    key_column: Annotated[str, typer.Option(help="Its column with the key.")] = "",
    bucket_column: Annotated[str, typer.Option(help="Its column with the bucket.")] = "",
) -> None:
    """What an administrator runs once as superuser, so that Foreshard needs none. It may be run again.

    Example: foreshard grants --sql --owner app --application app_rw --shadow app_shadow --database app | psql -d app
    """
    from foreshard.fleet import grants as scripts

    applications = application or [scripts.APPLICATION]
    if where is For.SHARD:
        shard = database or scripts.OWNER
        script = scripts.grants_sql(operator, owner or [scripts.OWNER], applications, shard, shadow)
    elif where is For.CONTROL:
        control = database or scripts.OPERATOR
        script = scripts.control_grants_sql(operator, scheduler or None, control, scheduler)
    elif where is For.APPLICATION:
        script = scripts.application_grants_sql(applications, database or scripts.OPERATOR)
    else:
        given = {"--table": table, "--key-column": key_column, "--bucket-column": bucket_column}
        for option, value in given.items():
            if not value:
                raise InvalidInput(option, "is missing.", remedy="A directory needs it.")
        script = scripts.directory_grants_sql(table, key_column, bucket_column, applications)
    if not sql:
        out.print(f"To be run once for each {where.value} (--sql prints this script alone):", highlight=False)
    sys.stdout.write(script)


def main() -> None:
    """Entry point of `python -m foreshard.cli`."""
    app()


if __name__ == "__main__":
    main()
