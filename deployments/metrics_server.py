"""Serves Foreshard's metrics for Prometheus on a loopback port, beside what a process does: http://HOST:PORT/metrics."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from foreshard.control.engine import ControlDatabase
from foreshard.errors import InvalidInput
from foreshard.metrics.prometheus import FleetCollector
from foreshard.metrics.reader import read
from foreshard.postgres import passwords
from foreshard.router.prometheus import Endpoint
from foreshard.settings import Settings


@contextmanager
def beside(settings: Settings) -> Iterator[None]:
    """Serves while the body runs. Where that cannot be it says why, and the body runs all the same."""
    endpoint = control = None
    if settings.metrics.port:
        passwords.use(settings.passwords, settings.passfile, settings.load.tokens)
        control = ControlDatabase(settings.control.dsn)
        database = control
        collector = FleetCollector(lambda: read(database, settings))
        try:
            endpoint = Endpoint(collector, settings.metrics.port, settings.metrics.host)
        except InvalidInput as refused:
            text = f"Metrics cannot be served: {refused.message} Set metrics.port to a free port (0: not served)."
            print(text, file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if endpoint is not None:
            endpoint.close()
        if control is not None:
            control.close()
