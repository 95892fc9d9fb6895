"""`foreshard policy`: the numbers that steer decisions; a change holds from the next decision on, without a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from foreshard.cli_output import AsJson, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.policy_store import VARIABLE, PolicyStore, document, effective
from foreshard.control.session import session
from foreshard.errors import InvalidInput
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.policy_fields import policy_fields, value_in_words
from foreshard.settings import Settings

policy_app = typer.Typer(no_args_is_help=True, help="The numbers that steer decisions.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
By = Annotated[str, typer.Option("--as", help="Your name; it is kept with the change.")]


@policy_app.command("show", epilog="Examples: foreshard policy show · foreshard policy show --json")
def policy_show(as_json: AsJson = False) -> None:
    """Every number with its range and where it comes from: the defaults, foreshard.toml, or the standing overrides."""
    with session() as (settings, _):
        overrides = _overrides(settings)
        values = document(effective(settings.decision, overrides))
    layers = {one.name: _layer(one.name, settings, overrides) for one in policy_fields()}
    if as_json:
        show(
            [
                {
                    "field": one.name, "value": values[one.name], "layer": layers[one.name], "default": one.default,
                    "allowed": one.allowed, "description": one.description,
                }
                for one in policy_fields()
            ]
        )  # fmt: skip
        return
    table = Table("field", "value", "from", "allowed", "what it is", box=None, pad_edge=False)
    for one in policy_fields():
        value = escape(value_in_words(values[one.name]))
        layer = layers[one.name]
        table.add_row(
            one.name, value if layer == "default" else f"[bold]{value}[/]", layer, escape(one.allowed),
            escape(one.description),
        )  # fmt: skip
    out.print(table)
    out.print(
        f"From: default; settings ([decision] in foreshard.toml); variable (the Prefect Variable {VARIABLE}, which "
        "`foreshard policy set` writes). A run of decide may be given its own on top.",
        highlight=False,
    )


@policy_app.command(
    "set",
    epilog="Examples: foreshard policy set relief_probability=0.1 max_migrations=3 --as Ada · "
    "foreshard policy set 'windows=[\"Mon-Fri 22:00-06:00\"]' --dry-run",
)
def policy_set(
    values: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE ...", help="A list or table as JSON.")],
    by: By = "command line",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Overrides numbers from the next decision on. All of them are checked first; one that is wrong changes nothing."""
    given = dict(_parsed(text) for text in values)
    if len(given) < len(values):
        raise InvalidInput("FIELD", "is given twice.")
    with session() as (settings, control):
        _change(
            settings, control, lambda overrides: {**overrides, **given}, by, dry_run=dry_run, as_json=as_json
        )


@policy_app.command("unset", epilog="Example: foreshard policy unset relief_probability --as Ada")
def policy_unset(
    fields: Annotated[
        list[str], typer.Argument(metavar="FIELD ...", help="What foreshard.toml says holds again.")
    ],
    by: By = "command line",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Takes overrides back."""
    with session() as (settings, control):
        standing = _overrides(settings)
        for name in fields:
            if name not in standing:
                known = ", ".join(standing) or "none"
                raise InvalidInput(name, "is not overridden.", remedy=f"Overridden: {known}.")

        def without(overrides: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in overrides.items() if name not in fields}

        _change(settings, control, without, by, dry_run=dry_run, as_json=as_json)


@policy_app.command(
    "history", epilog="Examples: foreshard policy history · foreshard policy history --last 5 --json"
)
def policy_history(
    last: Annotated[int, typer.Option(min=1, help="So many changes.")] = 20, as_json: AsJson = False
) -> None:
    """Who changed which number when, newest first. Parameters of single runs of decide are among them."""
    with session() as (_, control):
        changes = PolicyStore(control).changes(last)
    if as_json:
        show(
            [
                {"at": one.at, "layer": one.layer, "who": one.who, "before": one.before, "after": one.after}
                for one in changes
            ]
        )
        return
    table = Table("at (UTC)", "layer", "who", "field", "before", "after", box=None, pad_edge=False)
    for one in changes:
        for name in sorted(one.before.keys() | one.after.keys()):
            sides = (escape(_side(values, name)) for values in (one.before, one.after))
            table.add_row(f"{one.at:%Y-%m-%d %H:%M}", one.layer.value, escape(one.who), name, *sides)
    out.print(table if changes else "Nothing was ever changed, and nothing decided.")


def _overrides(settings: Settings) -> dict[str, Any]:
    """What the Variable holds. Raises InvalidInput if that is not fields and values."""
    from deployments import prefect_client

    held = prefect_client.policy_overrides(settings)
    if held is None:
        return {}
    if not isinstance(held, dict):
        raise InvalidInput(
            VARIABLE, f"holds no table of fields and values ({held!r}).", remedy="Correct it in Prefect."
        )
    return held


def _change(
    settings: Settings,
    control: ControlDatabase,
    change: Any,
    by: str,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from deployments import prefect_client

    if not by.strip():
        raise InvalidInput("--as", "is empty.", remedy="Say who changes it.")
    standing = _overrides(settings)
    wanted = change(standing)
    # The values alone first: an error then names the field as it was typed.
    after = document(DecisionPolicy(**{**settings.decision.model_dump(), **wanted}))
    before = _before(settings, standing)
    changed = {name: (before.get(name), after[name]) for name in after if before.get(name) != after[name]}
    if not dry_run and wanted != standing:
        prefect_client.override_policy(settings, {name: after[name] for name in wanted})
        PolicyStore(control).note(settings.decision, {name: after[name] for name in wanted}, {}, by)
    if as_json:
        said = {name: {"before": pair[0], "after": pair[1]} for name, pair in changed.items()}
        show({"changed": said, "written": not dry_run and wanted != standing, "overrides": wanted})
        return
    for name, (old, new) in changed.items():
        out.print(f"{name}: {value_in_words(old)} → {value_in_words(new)}", highlight=False, markup=False)
    if not changed:
        out.print("No number changes.")
    out.print(
        "Nothing was written: that was a dry run." if dry_run else "It holds from the next decision on."
    )


def _before(settings: Settings, standing: Mapping[str, Any]) -> dict[str, Any]:
    """The policy as it stands; of overrides that cannot be used, and may just be corrected, what they say."""
    try:
        return document(effective(settings.decision, standing))
    except InvalidInput:
        return {**document(settings.decision), **standing}


def _layer(name: str, settings: Settings, overrides: Mapping[str, Any]) -> str:
    if name in overrides:
        return "variable"
    return "settings" if name in settings.decision.model_fields_set else "default"


def _parsed(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidInput("FIELD=VALUE", f"{text!r} has no name and value.", remedy="For example knee=0.75.")
    known = [one.name for one in policy_fields()]
    if name not in known:
        raise InvalidInput(name, "is no field of the policy.", remedy="`foreshard policy show` lists them.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _side(values: Mapping[str, Any], name: str) -> str:
    return value_in_words(values[name]) if name in values else "-"
