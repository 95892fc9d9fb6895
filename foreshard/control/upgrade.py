"""Brings the control database to this version's schema, or says why it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from alembic.util import CommandError

from foreshard.control.engine import ControlDatabase
from foreshard.errors import ForeshardError


@dataclass(frozen=True)
class Upgrade:
    """Revisions; ``before`` is None for an empty database."""

    before: str | None
    after: str | None

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return self.before != self.after


def upgrade(control: ControlDatabase) -> Upgrade:
    """May be called by several at once, and again. Raises ForeshardError for a database of a newer version."""
    before, newest = control.revision()
    if before != newest:
        try:
            control.migrate()
        except CommandError:
            raise ForeshardError(
                f"The control database has schema {before}, which this version does not know.",
                remedy="Install the version of Foreshard that made it, or a newer one.",
            ) from None
    return Upgrade(before, newest)
