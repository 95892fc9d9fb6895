"""All checks: which there are, in what order they can run, and what becomes of one that does not answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import psycopg
from sqlalchemy.exc import OperationalError

from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import ShardRecord
from foreshard.doctor import alerts, clock, control, local, packages, prefect, prometheus, shard, shards
from foreshard.doctor.control import ControlFacts, Fleet
from foreshard.doctor.finding import Finding, wrong
from foreshard.doctor.prefect import Expected
from foreshard.doctor.prefect_api import Automation
from foreshard.doctor.shard import ShardFacts
from foreshard.doctor.together import together
from foreshard.errors import ForeshardError, InvalidInput
from foreshard.postgres import passwords
from foreshard.settings import Settings

TIMEOUT_S = 20.0
"""For each check; a server that does not answer is given up after five seconds by itself."""

CHECKS = (
    packages.CHECK,
    local.CHECK,
    control.CHECK,
    prefect.CHECK,
    prefect.DEPLOYMENTS,
    alerts.CHECK,
    prometheus.CHECK,
    shards.CHECK,
    clock.CHECK,
)
"""What ``--only`` takes, and the name of each shard besides."""

KNOWS_NO_FLEET = CHECKS[:7]

Tell = Callable[[set[str]], None]


class Examination:
    """One look at an installation.

    ``deployment``, ``expected`` and ``automations``, the names of those that alert, say what should be in Prefect.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: str,
        expected: Callable[[], Sequence[Expected]],
        automations: Callable[[], Sequence[str]],
        *,
        only: str | None = None,
        tell: Tell = lambda _: None,
    ) -> None:
        self._settings, self._only, self._tell = settings, only, tell
        self._deployment, self._expected, self._automations = deployment, expected, automations
        self._control_facts: ControlFacts | None = None

    def run(self) -> list[Finding]:
        """All findings, in the order of the checks. Raises InvalidInput: there is no such check."""
        settings = self._settings
        passwords.use(settings.passwords, settings.passfile, settings.load.tokens)
        found = self._first()
        fleet = None if self._control_facts is None else self._control_facts.fleet
        if fleet is None and self._only not in (None, *KNOWS_NO_FLEET):
            return found  # why nothing can be said of the fleet
        names = [one.name for one in fleet.shards] if fleet else []
        if self._only is not None and self._only not in (*CHECKS, *names):
            raise InvalidInput(
                "--only", f"{self._only!r} is no check.", remedy=f"One of: {', '.join((*CHECKS, *names))}."
            )
        if fleet is not None and self._wants(shards.CHECK, clock.CHECK, *names):
            found += self._fleet(fleet)
        # Without any of its own, why there is none: deployments of a Prefect that is away.
        return [one for one in found if self._only in (None, one.check)] or found

    def _wants(self, *checks: str) -> bool:
        return self._only is None or self._only in checks

    def _first(self) -> list[Finding]:
        """Everything that can be asked without knowing the fleet, at the same time."""
        settings = self._settings
        api_url = settings.prefect.api_url or os.environ.get("PREFECT_API_URL")
        jobs: dict[str, Callable[[], list[Finding]]] = {}
        if self._wants(packages.CHECK):
            jobs[packages.CHECK] = packages.examine
        if self._wants(local.CHECK):
            jobs[local.CHECK] = lambda: local.judge(local.read(settings))
        if self._only in (None, control.CHECK) or self._only not in KNOWS_NO_FLEET:
            jobs[control.CHECK] = self._control
        if self._wants(prefect.CHECK, prefect.DEPLOYMENTS, alerts.CHECK):
            jobs[prefect.CHECK] = partial(
                prefect.examine, api_url, self._deployment, self._expected, self._alerts
            )
        if self._wants(prometheus.CHECK) and settings.load.prometheus:
            jobs[prometheus.CHECK] = partial(prometheus.examine, settings.load.prometheus)
        return _findings(together(jobs, TIMEOUT_S, self._tell))

    def _alerts(self, there: Sequence[Automation]) -> list[Finding]:
        return alerts.judge(self._settings.alerts, there, self._automations())

    def _control(self) -> list[Finding]:
        database = ControlDatabase(self._settings.control.dsn)
        try:
            self._control_facts = control.read(database)
        except (OperationalError, psycopg.OperationalError) as error:
            return [control.away(_first_line(getattr(error, "orig", None) or error))]
        finally:
            database.close()
        return control.judge(self._control_facts)

    def _fleet(self, fleet: Fleet) -> list[Finding]:
        """Every shard at the same time; then what only two of them can tell."""
        migration = self._settings.migration
        looked_at = together(
            {one.name: partial(shard.read, one, fleet, migration) for one in fleet.shards},
            TIMEOUT_S,
            self._tell,
        )
        facts = {name: one for name, one in looked_at.items() if isinstance(one, ShardFacts)}
        found: list[Finding] = []
        for name, one in looked_at.items():
            found += [_failed(name, one)] if isinstance(one, Exception) else shard.judge(one, migration)
        if len(facts) > 1 and self._wants(shards.CHECK):
            found += shards.judge(list(facts.values()), fleet.key_type)
            found += self._reach([one.record for one in facts.values()])
        assert self._control_facts is not None
        clocks = {"the control database": self._control_facts.clock}
        return [*found, *clock.judge(clocks | {name: one.clock for name, one in facts.items()})]

    def _reach(self, answering: Sequence[ShardRecord]) -> list[Finding]:
        wanted: dict[str, list[ShardRecord]] = {}
        by_name = {one.name: one for one in answering}
        for subscriber, publisher in shards.links(answering):
            wanted.setdefault(subscriber.name, []).append(publisher)
        tried = together(
            {f"{name} to others": partial(shards.reach, by_name[name], of) for name, of in wanted.items()},
            TIMEOUT_S,
            self._tell,
        )
        failures: dict[tuple[str, str], str | None] = {}
        for name, publishers in wanted.items():
            outcome = tried[f"{name} to others"]
            for publisher in publishers:
                failures[name, publisher.name] = (
                    _first_line(outcome) if isinstance(outcome, Exception) else outcome[publisher.name]
                )
        return shards.judge_reach(failures)


def _findings(looked_at: Mapping[str, list[Finding] | Exception]) -> list[Finding]:
    found: list[Finding] = []
    for check, outcome in looked_at.items():
        found += [_failed(check, outcome)] if isinstance(outcome, Exception) else outcome
    return found


def _failed(check: str, error: Exception) -> Finding:
    """It could not be looked at: that is wrong, whatever it is."""
    if isinstance(error, ForeshardError):
        text = error.message if error.message.startswith(check) else f"{check}: {error.message}"
        return wrong(check, text.rstrip("."), error.remedy or "Mend that first.")
    return wrong(
        check, f"{check}: {_first_line(error)}", "Mend that first; nothing else of it could be looked at."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
