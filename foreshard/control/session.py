"""What every flow and command starts with: the settings and the control database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from foreshard.control.engine import ControlDatabase
from foreshard.postgres import passwords
from foreshard.settings import Settings, load_settings


@contextmanager
def session() -> Iterator[tuple[Settings, ControlDatabase]]:
    """The settings of this process and an open control database, closed at the end."""
    settings = load_settings()
    passwords.use(settings.passwords, settings.passfile, settings.load.tokens)
    control = ControlDatabase(settings.control.dsn)
    try:
        yield settings, control
    finally:
        control.close()
