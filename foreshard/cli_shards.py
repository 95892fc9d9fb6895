"""Commands about single shards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from foreshard.adoption.description import (
    BucketsSection,
    FleetDescription,
    ShardSection,
    capacity_of,
    checked_shard,
)
from foreshard.adoption.facts import Finding, ShardFacts
from foreshard.adoption.inspection import inspect
from foreshard.adoption.installation import install
from foreshard.adoption.report import databases
from foreshard.cli_adoption import print_finding
from foreshard.cli_fleet import progress
from foreshard.cli_output import AsJson, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.session import session
from foreshard.control.shard_store import PROVEN_QUANTILE, ShardStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import InvalidInput
from foreshard.postgres.connect import server_name

shard_app = typer.Typer(no_args_is_help=True, help="Shards: add, drain, remove; what they can bear.")

Name = Annotated[str, typer.Argument(help="Name of the shard.")]
Capacities = Annotated[list[str] | None, typer.Argument(metavar="[METRIC=NUMBER]...", show_default=False)]


@shard_app.command("list")
def shard_list(as_json: AsJson = False) -> None:
    """All shards: where they are, how many buckets they hold, what they can bear."""
    with session() as (_, control):
        topology = TopologyStore(control)
        shards, placement = topology.shards(), topology.placement()
    if as_json:
        show([asdict(shard) | {"buckets": len(placement.buckets_on(shard.name))} for shard in shards])
        return
    table = Table(
        "shard", "buckets", "state", "capacity", "server", box=None, pad_edge=False, padding=(0, 3, 0, 0)
    )
    for shard in shards:
        state = "[yellow]draining[/]" if shard.draining else "active"
        held = f"{len(placement.buckets_on(shard.name)):,}"
        table.add_row(shard.name, held, state, _capacities(shard.capacity), escape(server_name(shard.dsn)))
    out.print(table if shards else "There is no shard yet: `foreshard adopt` takes over a fleet.")


@shard_app.command("add")
def shard_add(
    name: Name,
    dsn: Annotated[str, typer.Option(help="How Foreshard reaches it, without a password.")],
    application_dsn: Annotated[str, typer.Option(help="How routers reach it, without a password.")],
    capacity: Annotated[
        list[str] | None, typer.Option(metavar="METRIC=NUMBER", help="What it can bear; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look at it; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Adds a shard: looks at its server, grants and databases first, and refuses one that could take no bucket.

    The next collect and forecast learn of it; then decisions may move buckets there.

    Example: foreshard shard add shard-5 --dsn "host=db5 dbname=app user=foreshard passfile=/etc/pgpass"
    --application-dsn "host=db5 dbname=app user=app passfile=/etc/pgpass" --capacity queries_per_s=1000
    """
    added = _section(name, dsn, application_dsn, _parsed(capacity or []))
    with session() as (_, control):
        findings = _look(control, name, added)
        wrong = any(finding.blocks or finding.untrue for finding in findings)
        if not wrong and not dry_run:
            install({name: added})
            TopologyStore(control).put_shard(
                ShardRecord(name, added.dsn, added.application_dsn, added.capacity)
            )
    added_now = not wrong and not dry_run
    if as_json:
        show({"shard": name, "findings": [asdict(one) for one in findings], "added": added_now})
    else:
        for finding in findings:
            print_finding(finding, out)
        done = f"{name} is a shard of the fleet." if added_now else f"{name} could be added."
        out.print(f"{name} was not added." if wrong else done, highlight=False)
    if wrong:
        raise typer.Exit(1)


def _look(control: ControlDatabase, name: str, added: ShardSection) -> list[Finding]:
    """What is wrong with a shard to be added, alone and beside the others."""
    topology = TopologyStore(control)
    known = topology.shards()
    names = tuple(bucket.name for bucket in topology.buckets())
    shards = {one.name: ShardSection(dsn=one.dsn, application_dsn=one.application_dsn) for one in known}
    if name in shards:
        raise InvalidInput(
            "NAME", f"{name} is a shard already.", remedy="`foreshard adopt` changes what is known of it."
        )
    key_type, tables = topology.key_type(), topology.tables()
    description = FleetDescription.model_construct(
        key_type=key_type,
        buckets=BucketsSection.model_construct(pattern=None, names=names),
        tables={table: (column,) for table, column in tables.items()},
        shards={**shards, name: added},
    )
    with progress() as report:
        facts = inspect(description, report)
    new = facts[-1]
    findings = [
        *_away(new),
        *new.findings,
        *databases([key_type], [one for one in facts if one.away is None]),
    ]
    if new.buckets:
        shown = ", ".join(new.buckets[:3])
        why = f"holds buckets of this fleet already ({shown}), which are on other shards"
        findings.append(Finding(name, why, "Drop or rename those schemas there.", untrue=True))
    if not added.capacity:
        remedy = "Nothing is moved onto it without one: --capacity, or later `foreshard shard capacity`."
        findings.append(Finding(name, "has no capacity", remedy, blocks=False))
    return findings


def _away(shard: ShardFacts) -> list[Finding]:
    if shard.away is None:
        return []
    return [Finding(shard.name, shard.away, "Start it, or correct its DSN and passfile.", untrue=True)]


@shard_app.command("drain")
def shard_drain(name: Name, as_json: AsJson = False) -> None:
    """Lets a shard be emptied: nothing is planned onto it any more, and decisions move its buckets away.

    Shards at risk are helped first. Plans that would move buckets onto it are rejected; a migration under way goes on.

    Example: foreshard shard drain shard-2
    """
    with session() as (_, control):
        drained = ShardStore(control).drain(name)
    if as_json:
        show({"shard": name, "draining": True, **asdict(drained)})
        return
    for plan in drained.rejected_plans:
        out.print(f"Plan {plan} would have moved buckets there: rejected.", highlight=False)
    rest = f"{drained.buckets} buckets are to leave it; the next decision plans the first move."
    out.print(
        f"{name} is draining. {rest if drained.buckets else 'It is empty: remove it.'}", highlight=False
    )


@shard_app.command("undrain")
def shard_undrain(name: Name, as_json: AsJson = False) -> None:
    """Takes a drain back: the shard keeps what it has and may be given buckets again.

    Example: foreshard shard undrain shard-2
    """
    with session() as (_, control):
        ShardStore(control).undrain(name)
    if as_json:
        show({"shard": name, "draining": False})
    else:
        out.print(f"{name} is a shard like the others again.", highlight=False)


@shard_app.command("remove")
def shard_remove(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it could be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Takes an empty shard out of the fleet. Changes nothing on the shard itself.

    Refused while it holds buckets or takes part in a migration; drain it first.

    Example: foreshard shard remove shard-2 --dry-run
    """
    with session() as (_, control):
        store = ShardStore(control)
        reasons = store.obstacles(name)
        left = 0 if dry_run or (as_json and reasons) else store.remove(name)
    if as_json:
        show({"shard": name, "reasons": reasons, "removed": not reasons and not dry_run, "left_there": left})
    elif dry_run:
        said = f"cannot be removed: {'; '.join(reasons)}." if reasons else "can be removed."
        out.print(f"{name} {said}", highlight=False)
    else:
        rest = f" {left} objects of ended migrations are left on it; nobody removes them now." if left else ""
        out.print(f"{name} is no shard of the fleet any more.{rest}", highlight=False)
    if reasons:
        raise typer.Exit(1)


@shard_app.command("capacity")
def shard_capacity(
    name: Name,
    values: Capacities = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="Say what it has carried so far; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sets what a shard can bear, shows it, or proposes it from what it has carried.

    Examples: foreshard shard capacity s1 queries_per_s=1200 cpu_cores=8 · foreshard shard capacity s1 --propose
    """
    given = _parsed(values or [])
    if given and propose:
        raise InvalidInput("--propose", "goes without values.", remedy="Look at the proposal, then set them.")
    with session() as (_, control):
        if propose:
            _propose(control, name, as_json)
            return
        store = ShardStore(control)
        capacity = (
            store.set_capacity(name, given) if given else dict(TopologyStore(control).shard(name).capacity)
        )
    if as_json:
        show({"shard": name, "capacity": capacity})
    else:
        out.print(f"{name}: {_capacities(capacity) or 'no capacity is set'}", highlight=False)


def _propose(control: ControlDatabase, name: str, as_json: bool) -> None:
    proven = ShardStore(control).proven(name)
    present = TopologyStore(control).shard(name).capacity
    if as_json:
        proposed = [asdict(one) | {"present": present.get(one.metric)} for one in proven]
        show({"shard": name, "quantile": PROVEN_QUANTILE, "lower_bound": True, "proposed": proposed})
        return
    if not proven:
        out.print(f"Nothing is known of the load of {name} yet: run the collect flow.", highlight=False)
        return
    table = Table(
        "metric", "now", "proposed", "means", "from", "to", box=None, pad_edge=False, padding=(0, 3, 0, 0)
    )
    for one in proven:
        now = f"{present[one.metric]:g}" if one.metric in present else "none"
        days = f"{one.first:%Y-%m-%d}", f"{one.last:%Y-%m-%d}"
        table.add_row(one.metric, now, f"{one.value:.4g}", f"{one.means:,}", *days)
    out.print(table)
    out.print(
        "This is the 99th percentile of 5-minute means: what the shard has borne, so a proven lower bound, not its"
        " limit. Where it was never busy, the true capacity is higher; a load test tells it.",
        highlight=False,
    )
    words = " ".join(f"{one.metric}={one.value:.4g}" for one in proven if one.value > 0)
    if words:
        out.print(f"To accept: foreshard shard capacity {name} {words}", highlight=False, soft_wrap=True)


def _parsed(values: list[str]) -> dict[str, float]:
    capacity = {}
    for value in values:
        metric, _, number = value.partition("=")
        try:
            capacity[metric] = capacity_of(metric, float(number))
        except ValueError as refused:
            why = "is not METRIC=NUMBER" if "could not convert" in str(refused) else str(refused)
            raise InvalidInput(
                "capacity", f"{value!r}: {why}.", remedy="For example queries_per_s=1200."
            ) from None
    return capacity


def _section(name: str, dsn: str, application_dsn: str, capacity: dict[str, float]) -> ShardSection:
    try:
        checked_shard(name)
    except ValueError as refused:
        raise InvalidInput("NAME", f"{refused}.", remedy="Choose another name.") from None
    try:
        return ShardSection(dsn=dsn, application_dsn=application_dsn, capacity=capacity)
    except ValidationError as invalid:
        first = invalid.errors(include_input=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise InvalidInput(
            option, f"{first['msg'].removeprefix('Value error, ')}.", remedy="Correct it."
        ) from None


def _capacities(capacity: Any) -> str:
    return ", ".join(f"{metric} {limit:g}" for metric, limit in sorted(capacity.items()))
