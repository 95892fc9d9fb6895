"""Clocks of this machine, the control database's server and the shards."""

from __future__ import annotations

from collections.abc import Mapping

from foreshard.doctor.finding import Finding, or_ok, warn, wrong
from foreshard.migration.preflight.pair import SKEW_S
from foreshard.postgres.server_facts import ClockOffset

CHECK = "clock"
WRONG_S = 60.0
"""Load is stored by the minute: beyond this a shard's samples and a machine's fall into different ones."""


def judge(offsets: Mapping[str, ClockOffset]) -> list[Finding]:
    """``offsets``: by server; against this machine's clock."""
    found = []
    for server, offset in offsets.items():
        skew = abs(offset.seconds) - offset.uncertainty_s
        what = f"the clock of {server} is {offset.seconds:+.1f} s from this machine's"
        remedy = (
            "Let chrony or systemd-timesyncd keep both. Who owns a key does not depend on clocks; "
            "load samples, schedules, approvals' expiry and now() in rows do."
        )
        if skew > WRONG_S:
            found.append(wrong(CHECK, what, remedy))
        elif skew > SKEW_S:
            found.append(warn(CHECK, what, remedy))
    return or_ok(
        CHECK, found, f"clocks of {len(offsets)} server(s) agree with this machine's within {SKEW_S:g} s"
    )
