"""Alerts: are their automations in Prefect, and is anybody notified by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from foreshard.alerts.alert_settings import AlertSettings
from foreshard.doctor.finding import Finding, or_ok, warn
from foreshard.doctor.prefect_api import Automation
from foreshard.quantities import many

CHECK = "alerts"


def judge(
    settings: AlertSettings, automations: Sequence[Automation], expected: Sequence[str]
) -> list[Finding]:
    """``automations``: those that exist; ``expected``: names of those that this version applies.

    One that is disabled is a finding of the deployments' check, which looks at all of ours. Whether a block's message
    arrives nobody can tell from here.
    """
    by = ", ".join(settings.blocks)
    return or_ok(
        CHECK, _faults(settings, automations, expected), f"{many(len(expected), 'automation')} notify by {by}"
    )


def _faults(
    settings: AlertSettings, automations: Sequence[Automation], expected: Sequence[str]
) -> Iterator[Finding]:
    known = {one.name for one in automations}
    missing = [name for name in expected if name not in known]
    if missing:
        what = ", ".join(f"'{name}'" for name in missing)
        said = "no automation of ours alerts" if len(missing) == len(expected) else f"not in Prefect: {what}"
        yield warn(CHECK, said, "Run `foreshard automations apply`, or restart `foreshard serve`.")
    if not settings.blocks:
        yield warn(
            CHECK,
            "alerts notify nobody: no block is named",
            "Make a notification block in the UI, Blocks, and name it in alerts.blocks (docs/monitoring.md); "
            "or rely on Prometheus' rules.",
        )
