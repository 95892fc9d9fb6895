"""What an interrupted flip needs. Pure: bounds and journal in, one decision out; `foreshard.migration.flip` does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from foreshard.topology.keys import SLOTS


@dataclass(frozen=True)
class Bounds:
    """The bound on each side; None where the migration has nothing on that shard."""

    source: int | None
    target: int | None

    @property
    def gap(self) -> bool:
        """Whether some key has no owner."""
        return self.source is not None and self.target is not None and self.source > self.target

    @property
    def overlap(self) -> bool:
        """Whether some key would have two owners."""
        return (self.target or 0) > (SLOTS if self.source is None else self.source)


class Settlement(StrEnum):
    """What to do about a flip before anything else."""

    NOTHING = "nothing"
    """Both sides agree, the journal with them, and no flip is open."""
    CORRECT_JOURNAL = "correct the journal"
    """Both sides agree on a bound that the journal does not name: both were failed over, or it was restored."""
    CARRY_OUT = "carry out"
    """It closed and did not open: close, marker, open again, each idempotent."""
    TAKE_BACK = "take back"
    """The side that closed gets its keys back, without a marker: the other side never owned them since."""
    INTEND_TAKE_BACK = "intend, then take back"
    """The same, but nobody has journaled it: the flip was cancelled, and the runner died before it took back."""
    CONFIRM = "confirm"
    """It opened: open again (for the row that mirrors the bound), then journal it."""
    CANCEL = "cancel"
    """It did nothing: both sides promise to take no part in it any more."""


def settlement(bounds: Bounds, intended: int | None, journalled: int) -> Settlement:
    """The way out.

    ``intended``: the bound that the unfinished flip wants, None if there is none. ``journalled``: the bound before it,
    that routers are told. Bounds that would give a key two owners are not for here (`Work.bounds` refuses them).
    """
    if bounds.source is None or bounds.target is None:
        return Settlement.NOTHING
    if bounds.gap:
        if intended is None:
            return Settlement.INTEND_TAKE_BACK
        return Settlement.TAKE_BACK if intended == journalled else Settlement.CARRY_OUT
    if intended is None:
        return Settlement.NOTHING if bounds.source == journalled else Settlement.CORRECT_JOURNAL
    return Settlement.CONFIRM if bounds.source == intended else Settlement.CANCEL
