"""Prefect: is it there, does it schedule, are our deployments registered, does anybody run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx

from foreshard.doctor import prefect_api
from foreshard.doctor.finding import Finding, ok, or_ok, warn, wrong
from foreshard.doctor.packages import installed_version
from foreshard.doctor.prefect_api import Automation, Pool, PrefectFacts, Registered

CHECK = "prefect"
DEPLOYMENTS = "deployments"

SILENT_S = 90.0
"""A serving process asks every two seconds, a worker says that it lives every thirty."""

LATE = 10
"""Late runs that a restart may leave; more pile up because nobody starts them."""

REGISTER = "Restart `foreshard serve`, or run `prefect deploy --all --prefect-file deployments/prefect.yaml`."


@dataclass(frozen=True)
class Expected:
    """A deployment as this version has it. ``interval_s`` None: no schedule; ``automation``: what starts it."""

    name: str
    entrypoint: str
    tags: tuple[str, ...]
    interval_s: float | None
    limit: int | None
    automation: str | None


def examine(
    api_url: str | None,
    deployment: str,
    expected: Callable[[], Sequence[Expected]],
    alerts: Callable[[Sequence[Automation]], list[Finding]],
) -> list[Finding]:
    """``deployment``: the name that all of ours have; ``alerts`` judges the automations that exist."""
    if api_url is None:
        return [wrong(CHECK, "prefect.api_url is not set", "Set it in foreshard.toml, or PREFECT_API_URL.")]
    try:
        facts = prefect_api.read(api_url, deployment)
    except httpx.HTTPStatusError as refused:
        return [_refused(api_url, refused.response.status_code)]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return [
            wrong(
                CHECK,
                f"Prefect does not answer at {api_url}: {error or type(error).__name__}",
                "Start its server (`prefect server start`), or correct prefect.api_url.",
            )
        ]
    client = installed_version("prefect") or "none"
    return [
        *judge(facts, client, api_url),
        *judge_deployments(facts, expected()),
        *alerts(facts.automations),
    ]


def _refused(api_url: str, status: int) -> Finding:
    if status in (401, 403):
        return wrong(
            CHECK,
            f"Prefect at {api_url} refuses us (HTTP {status})",
            "Set PREFECT_API_AUTH_STRING as its server has it.",
        )
    return wrong(CHECK, f"Prefect at {api_url} answers with HTTP {status}", "See its server's log.")


def judge(facts: PrefectFacts, client: str, api_url: str) -> list[Finding]:
    """The server: version, database, scheduler."""
    found = [ok(CHECK, f"Prefect {facts.version} answers at {api_url}")]
    if facts.version != client:
        found = [
            wrong(
                CHECK,
                f"Prefect's server is {facts.version}, the client here {client}",
                f"Run the server as {client}: `pip install --constraint constraints.txt prefect=={client}` there.",
            )
        ]
    if facts.sqlite:
        found.append(
            wrong(
                CHECK,
                "Prefect keeps its data in SQLite, which answers a resume with an error under load",
                "Set PREFECT_API_DATABASE_CONNECTION_URL=postgresql+asyncpg://... for its server.",
            )
        )
    if facts.leases.endswith(".memory"):
        found.append(
            warn(
                CHECK,
                "Prefect forgets at a restart which run holds a deployment's place",
                "Set PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem "
                "for its server.",
            )
        )
    scheduled = any(one.interval_s is not None and not one.paused for one in facts.deployments)
    if scheduled and not facts.ahead:
        found.append(
            wrong(
                CHECK,
                "Prefect's scheduler makes no runs",
                "See its server's log; it needs SQLAlchemy below 2.1, and `prefect server services start` where it "
                "runs with --no-services.",
            )
        )
    elif scheduled:
        found.append(ok(CHECK, f"Prefect's scheduler has {facts.ahead} runs ahead"))
    return found


def judge_deployments(facts: PrefectFacts, expected: Sequence[Expected]) -> list[Finding]:
    """Our deployments, their schedules, limits, automations and whoever runs them."""
    known = {one.name: one for one in facts.deployments}
    missing = [one.name for one in expected if one.name not in known]
    if len(missing) == len(expected):
        return [
            wrong(DEPLOYMENTS, "no flow is deployed", "Start `foreshard serve`, or deploy to a work pool.")
        ]
    found = []
    if missing:
        found.append(wrong(DEPLOYMENTS, f"not deployed: {', '.join(missing)}", REGISTER))
    for one in expected:
        if one.name in known:
            found += _deployment(known[one.name], one)
            found += _automations(facts.automations, one)
    found += _somebody(facts)
    if facts.late > LATE:
        found.append(
            wrong(
                DEPLOYMENTS,
                f"{facts.late} runs are late: nobody starts them, or too few at once",
                "Start `foreshard serve` (it drops what a schedule left), or more workers.",
            )
        )
    for automation in facts.automations:
        if not automation.enabled and "foreshard" in f"{automation.name} {automation.description}".lower():
            found.append(
                warn(
                    DEPLOYMENTS,
                    f"automation '{automation.name}' is disabled",
                    "Enable it in the UI, Automations.",
                )
            )
    return or_ok(DEPLOYMENTS, found, f"{len(expected)} flows are deployed, scheduled and served")


def _deployment(known: Registered, expected: Expected) -> Iterator[Finding]:
    name = f"{known.name}"
    if known.entrypoint != expected.entrypoint:
        yield wrong(
            DEPLOYMENTS, f"{name} runs {known.entrypoint}, this version {expected.entrypoint}", REGISTER
        )
    if set(known.tags) != set(expected.tags) or known.limit != expected.limit:
        yield warn(DEPLOYMENTS, f"{name} is registered as another version had it", REGISTER)
    if known.paused and expected.interval_s is not None:
        yield warn(
            DEPLOYMENTS,
            f"the schedule of {name} is paused",
            f"Resume it in the UI, Deployments, {name}, unless somebody has a reason.",
        )
    elif expected.interval_s is not None and known.interval_s is None:
        yield wrong(DEPLOYMENTS, f"{name} has no schedule", REGISTER)
    elif known.interval_s != expected.interval_s:
        yield warn(
            DEPLOYMENTS,
            f"{name} runs every {known.interval_s or 0:g} s, this version has {expected.interval_s or 0:g}",
            REGISTER,
        )
    if known.limit is not None and known.used > known.holding:
        yield wrong(
            DEPLOYMENTS,
            f"{known.used - known.holding} of {known.limit} place(s) of {name} are held by no run: none can start",
            f"Restart `foreshard serve`, which frees them, or lower the slots in the UI, Concurrency, {name}.",
        )


def _automations(automations: Sequence[Automation], expected: Expected) -> Iterator[Finding]:
    if expected.automation is None:
        return
    mine = [one for one in automations if one.name == expected.automation]
    if not mine:
        yield wrong(DEPLOYMENTS, f"automation '{expected.automation}' is not there", REGISTER)
    elif not any(one.enabled for one in mine):
        yield wrong(
            DEPLOYMENTS,
            f"automation '{expected.automation}' is disabled: {expected.name} never starts",
            "Enable it in the UI, Automations.",
        )
    elif len(mine) > 1:
        yield warn(
            DEPLOYMENTS,
            f"{len(mine)} automations are called '{expected.automation}': {expected.name} starts for each",
            "Delete all but the one that its deployment owns.",
        )


def _somebody(facts: PrefectFacts) -> Iterator[Finding]:
    """A serving process polls deployments; workers poll their pools."""
    served = [one for one in facts.deployments if one.pool is None]
    if served and not any(one.polled_ago_s is not None and one.polled_ago_s < SILENT_S for one in served):
        ago = min((one.polled_ago_s for one in served if one.polled_ago_s is not None), default=None)
        when = "ever" if ago is None else f"for {ago:.0f} s"
        yield wrong(DEPLOYMENTS, f"nobody has asked for runs {when}", "Start `foreshard serve`.")
    for pool in facts.pools:
        yield from _pool(pool)


def _pool(pool: Pool) -> Iterator[Finding]:
    if pool.paused:
        yield wrong(
            DEPLOYMENTS, f"work pool {pool.name} is paused", f"Run `prefect work-pool resume {pool.name}`."
        )
    if pool.heartbeat_ago_s is None or pool.heartbeat_ago_s > SILENT_S:
        when = "ever" if pool.heartbeat_ago_s is None else f"for {pool.heartbeat_ago_s:.0f} s"
        yield wrong(
            DEPLOYMENTS,
            f"no worker of pool {pool.name} was heard of {when}",
            f"Run `prefect worker start --pool {pool.name}`.",
        )
