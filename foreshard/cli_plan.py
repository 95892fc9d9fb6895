"""`foreshard plan`: what would be moved, why and when; what differs from before; start it now, or never."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from foreshard.cli_migration_show import in_words
from foreshard.cli_output import AsJson, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_store import DecisionRecord, PlanRecord, PlanStore
from foreshard.control.session import session
from foreshard.errors import IllegalTransition, InvalidInput, NotFound
from foreshard.migration import approval_policy
from foreshard.migration.approval_settings import ApprovalSettings
from foreshard.moments import clock
from foreshard.planning.comparison import Comparison, compare_decisions, compare_plans
from foreshard.planning.explain import explain, summary
from foreshard.planning.explain_comparison import explain_comparison
from foreshard.planning.explain_decision import explain_decision
from foreshard.quantities import duration, size

plan_app = typer.Typer(no_args_is_help=True, help="Plans: what would be moved, why, and when.")

PlanId = Annotated[int, typer.Argument(min=1, help="Number of the plan.")]

_NEXT = "The next decision plans what is still needed."
REMEDIES = {
    "migrating": "`foreshard status` shows how far it is.",
    "done": "Nothing is left to do.",
    "rejected": _NEXT,
    "aborted": _NEXT,
    "reversed": _NEXT,
    "expired": "A newer forecast no longer supports it. `foreshard plan list` shows what is planned now.",
}
"""What to do instead of starting a plan in that state."""


@plan_app.command(
    "list", epilog="Examples: foreshard plan list · foreshard plan list --state proposed --json"
)
def plan_list(
    state: Annotated[str, typer.Option(help="Only plans in this state, such as proposed.")] = "",
    as_json: AsJson = False,
) -> None:
    """All plans, newest first."""
    with session() as (_, control):
        plans = [record for record in PlanStore(control).all() if state in ("", record.state)]
    if as_json:
        show([plan_document(record) for record in plans])
        return
    table = Table(box=None, pad_edge=False)
    for name in ("plan", "state", "for", "from", "to", "buckets", "size", "start", "takes", "excess at"):
        table.add_column(name, justify="right" if name in ("plan", "buckets", "size", "takes") else "left")
    for record in plans:
        plan, when = record.plan, record.plan.timeline
        table.add_row(
            str(record.id), record.state, plan.purpose.value, escape(plan.source), escape(plan.target),
            f"{len(plan.buckets):,}", size(plan.bytes), clock(when.not_before), duration(when.predicted_s),
            clock(plan.excess_at) if plan.excess_at else "none predicted",
        )  # fmt: skip
    out.print(table if plans else "There is no such plan." if state else "There is no plan yet.")
    if plans:
        out.print("Times are fleet time, UTC. `foreshard plan explain N` says why.", highlight=False)


@plan_app.command(
    "explain",
    epilog="Examples: foreshard plan explain 7 · foreshard plan explain --decision 3 · foreshard plan explain 7 --json",
)
def plan_explain(
    plan_id: Annotated[
        int | None, typer.Argument(min=1, metavar="[PLAN]", help="Number of the plan.")
    ] = None,
    decision: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="A whole decision: every shard's risk, all its plans."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Why these buckets, why there, why now, what it costs, and what happens if it is not done."""
    if (plan_id is None) == (decision is None):
        raise InvalidInput(
            "PLAN", "give the number of a plan, or --decision N.", remedy="`foreshard plan list`."
        )
    with session() as (_, control):
        store = PlanStore(control)
        if decision is not None:
            made = store.decision(decision)
            if as_json:
                show(decision_document(made))
            else:
                out.print(Markdown(explain_decision(made.decision, plan_names(made))))
            return
        assert plan_id is not None
        record = store.get(plan_id)
    if as_json:
        show(plan_document(record))
        return
    out.print(f"Plan {record.id} of decision {record.decision_id}: {_state(record)}", highlight=False)
    if record.recheck is not None:
        out.print(_recheck(record.recheck), highlight=False)
    out.print(Markdown(explain(record.plan, names_of_earlier(record))))


@plan_app.command(
    "diff",
    epilog="Examples: foreshard plan diff · foreshard plan diff 3 7 · foreshard plan diff --decisions 1 4 --json",
)
def plan_diff(
    first: Annotated[int | None, typer.Argument(min=1, metavar="[A]", help="The older one.")] = None,
    second: Annotated[int | None, typer.Argument(min=1, metavar="[B]", help="The newer one.")] = None,
    decisions: Annotated[bool, typer.Option("--decisions", help="A and B are decisions, not plans.")] = False,
    as_json: AsJson = False,
) -> None:
    """What the second moves otherwise than the first, how each shard's risk changed, and which policy fields differ.

    Without numbers: the two newest decisions.
    """
    if (first is None) != (second is None):
        raise InvalidInput(
            "B", "is missing.", remedy="Give two numbers, or none for the two newest decisions."
        )
    with session() as (_, control):
        store = PlanStore(control)
        if first is None or second is None:
            found = _between(*_newest_two(store))
        elif decisions:
            found = _between(store.decision(first), store.decision(second))
        else:
            found = _between_plans(store, store.get(first), store.get(second))
    comparison, before, after = found
    if as_json:
        show({"from": before, "to": after, **comparison.to_json()})
    else:
        out.print(Markdown(explain_comparison(comparison, before, after)))


@plan_app.command("apply", epilog="Examples: foreshard plan apply 7 --dry-run · foreshard plan apply 7 --yes")
def plan_apply(
    plan_id: PlanId,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Starts a proposed plan now, before its planned start. Everything after that is as always: checks, approvals."""
    with session() as (settings, control):
        store = PlanStore(control)
        record = store.get(plan_id)
        _must_be_proposed(record, "started")
        blocked = _in_its_way(control, record)
        if as_json and not (yes or dry_run):
            raise InvalidInput("--json", "cannot ask.", remedy="Add --yes or --dry-run.")
        if not as_json:
            _say_what_happens(record, settings.approval)
        if blocked:
            raise IllegalTransition(
                f"Plan {plan_id} cannot start now: {blocked}.",
                remedy="It starts by itself when that has ended.",
            )
        run_id = None
        if not dry_run:
            if not yes and not typer.confirm("Start it now?"):
                out.print("Nothing was started.")
                raise typer.Exit(1)
            from deployments import prefect_client

            prefect_client.use(settings)
            run_id = prefect_client.start_plan(control, record)
    if as_json:
        show({"plan": plan_id, "started": run_id is not None, "run": run_id})
    elif dry_run:
        out.print("Nothing was started: that was a dry run.")
    else:
        out.print(
            f"Plan {plan_id} is started: run {run_id}. `foreshard status` shows how far it is.",
            highlight=False,
        )


@plan_app.command(
    "reject", epilog="Example: foreshard plan reject 7 --as Ada --comment 'the promotion is cancelled'"
)
def plan_reject(
    plan_id: PlanId,
    by: Annotated[str, typer.Option("--as", help="Your name; it is kept with the plan.")],
    comment: Annotated[str, typer.Option(help="Why; kept as well.")] = "",
    as_json: AsJson = False,
) -> None:
    """Sees to it that a proposed plan never starts. A later decision may propose the same move again."""
    if not by.strip():
        raise InvalidInput("--as", "is empty.", remedy="Say who decides.")
    with session() as (_, control):
        store = PlanStore(control)
        _must_be_proposed(store.get(plan_id), "rejected")
        store.reject(plan_id, by, comment)
        record = store.get(plan_id)
    if as_json:
        show(plan_document(record))
    else:
        out.print(f"Plan {plan_id} is rejected, by {by}: it will not start.", highlight=False, markup=False)


def plan_document(record: PlanRecord) -> dict[str, Any]:
    """A stored plan for scripts."""
    return {
        "id": record.id, "state": record.state, "decision": record.decision_id, "reason": record.reason,
        "closed_by": record.closed_by, "closed_at": record.closed_at, **record.plan.to_json(),
    }  # fmt: skip


def decision_document(record: DecisionRecord) -> dict[str, Any]:
    """A stored decision for scripts."""
    head = {
        "id": record.id,
        "forecast": record.forecast_run_id,
        "plan_ids": record.plan_ids,
        "policy": record.policy,
    }
    return {**head, **record.decision.to_json()}


def plan_names(record: DecisionRecord) -> list[str]:
    """``plan 7``: what its plans are called, in its order."""
    return [f"plan {plan_id}" for plan_id in record.plan_ids]


def names_of_earlier(record: PlanRecord) -> list[str]:
    """What the plans that must end before this one are called."""
    return [f"plan {plan_id}" for plan_id in record.after]


def _state(record: PlanRecord) -> str:
    by = f" by {record.closed_by}" if record.closed_by else ""
    at = f" at {record.closed_at:%Y-%m-%d %H:%M} UTC" if record.closed_at else ""
    return f"{record.state}{by}{at}{f': {record.reason}' if record.reason else ''}"


def _recheck(found: Mapping[str, Any]) -> str:
    """What a newer decision says of a plan whose migration waits for approval."""
    needed = "is still needed" if found["supported"] else "[yellow]is not asked for any more[/]"
    return f"By decision {found['decision_id']} it {needed}: without it the source's risk would be {found['risk']:.3f}."


def _must_be_proposed(record: PlanRecord, what: str) -> None:
    if record.state != "proposed":
        raise IllegalTransition(
            f"Plan {record.id} cannot be {what}: it is {record.state}.", remedy=REMEDIES[record.state]
        )


def _in_its_way(control: ControlDatabase, record: PlanRecord) -> str | None:
    """What must end before the plan can start: a plan that it waits for, or another migration of one of its shards."""
    store, plan = PlanStore(control), record.plan
    for plan_id in record.after:
        earlier = store.get(plan_id)
        if earlier.state in ("proposed", "migrating"):
            return f"it waits for plan {earlier.id}, which is {earlier.state}"
    for migration in MigrationStore(control).live():
        shared = {migration.source, migration.target} & {plan.source, plan.target}
        if shared and migration.plan_id != record.id:
            return (
                f"{', '.join(sorted(shared))} takes part in migration {migration.id} ({in_words(migration)})"
            )
    return None


def _say_what_happens(record: PlanRecord, settings: ApprovalSettings) -> None:
    asking = approval_policy.asking(settings, record.plan.risk_before, cutover=True)
    every = "every flip" if settings.before == "every_flip" else "the cutover"
    asked = (
        f"it waits for your approval before {every}"
        if asking.wanted
        else f"nobody is asked before {every}, since {asking.why}"
    )
    out.print(summary(record.plan), highlight=False, markup=False)
    out.print(
        f"A `migrate` run would start now instead of at {clock(record.plan.timeline.not_before)} UTC: preflight first, "
        f"then the copy; {asked}, and can be aborted or reversed until it is finalised.",
        highlight=False,
        markup=False,
    )


def _newest_two(store: PlanStore) -> tuple[DecisionRecord, DecisionRecord]:
    newest = store.newest_decisions(2)
    if len(newest) < 2:
        raise NotFound("There are no two decisions yet.", remedy="Run forecast and decide again.")
    return newest[1], newest[0]


def _between(before: DecisionRecord, after: DecisionRecord) -> tuple[Comparison, str, str]:
    found = compare_decisions(before.decision, after.decision, before.policy, after.policy)
    return found, f"decision {before.id}", f"decision {after.id}"


def _between_plans(store: PlanStore, before: PlanRecord, after: PlanRecord) -> tuple[Comparison, str, str]:
    policies = (store.decision(one.decision_id).policy for one in (before, after))
    return compare_plans(before.plan, after.plan, *policies), f"plan {before.id}", f"plan {after.id}"
