"""Whether a person is asked before a flip, and why or why not, in words that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foreshard.migration.approval_settings import ApprovalSettings

if TYPE_CHECKING:
    from foreshard.migration.work import Work


@dataclass(frozen=True)
class Asking:
    """``wanted``: whether a person is asked. ``policy`` is `approval.before`; ``why`` one sentence without its end."""

    wanted: bool
    policy: str
    why: str


def guarded(settings: ApprovalSettings, *, cutover: bool) -> bool:
    """Whether a flip that gives the target keys needs fresh checks of its own, whoever is asked about it."""
    return cutover or settings.before == "every_flip"


def asking(settings: ApprovalSettings, risk: float | None, *, cutover: bool) -> Asking:
    """Whether a person is asked before a flip of a plan that was made for ``risk``.

    ``risk`` is the source's score in units of capacity, None where the plan does not say: then a person is asked.
    """
    before, least = settings.before, settings.below_risk
    if before == "never":
        return Asking(False, before, 'approval.before = "never"')
    if not guarded(settings, cutover=cutover):
        return Asking(False, before, f'approval.before = "{before}", and this is not the cutover')
    if least is not None and risk is not None and risk < least:
        return Asking(
            False,
            before,
            f"the plan was made for a risk of {risk:.4g}, below approval.below_risk = {least:g}",
        )
    why = f'approval.before = "{before}"'
    if least is not None:
        known = "the plan does not say its risk" if risk is None else f"its risk is {risk:.4g}"
        why += f", and {known} (approval.below_risk = {least:g})"
    return Asking(True, before, why)


def asking_for(work: Work, *, cutover: bool) -> Asking:
    """The same for a flip of this migration."""
    risk = work.plans.risk(work.record.plan_id) if work.approval.below_risk is not None else None
    return asking(work.approval, risk, cutover=cutover)
