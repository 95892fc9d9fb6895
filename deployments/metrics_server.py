"""Serves Foreshard's metrics for Prometheus: http://HOST:PORT/metrics, beside what a process does, or alone."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from foreshard.control.engine import ControlDatabase
from foreshard.errors import InvalidInput
from foreshard.metrics.prometheus import FleetCollector
from foreshard.metrics.reader import read
from foreshard.postgres import passwords
from foreshard.router.prometheus import Endpoint
from foreshard.settings import Settings


@contextmanager
def serving(settings: Settings) -> Iterator[Endpoint]:
    """Serves while the body runs. Raises InvalidInput if the address cannot be listened on."""
    passwords.use(settings.passwords, settings.passfile, settings.load.tokens)
    control = ControlDatabase(settings.control.dsn)
    try:
        collector = FleetCollector(lambda: read(control, settings))
        try:
            endpoint = Endpoint(collector, settings.metrics.port, settings.metrics.host)
        except InvalidInput as refused:
            raise InvalidInput(
                "metrics.port",
                refused.message.removeprefix("port: "),
                remedy="Set it to a free port (0: not served).",
            ) from None
        with endpoint:
            yield endpoint
    finally:
        control.close()


@contextmanager
def beside(settings: Settings) -> Iterator[None]:
    """Serves while the body runs. Where that cannot be it says why, and the body runs all the same."""
    with ExitStack() as stack:
        if settings.metrics.port:
            try:
                stack.enter_context(serving(settings))
            except InvalidInput as refused:
                print(f"{refused.message} {refused.remedy}", file=sys.stderr, flush=True)
        yield


def serve_alone(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises:
        InvalidInput: the port is 0, or cannot be listened on.
    """
    if not settings.metrics.port:
        raise InvalidInput("metrics.port", "is 0, so metrics are not served", remedy="Set it to a free port.")
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the server's threads, which inherit it
    with serving(settings) as endpoint:
        print(f"Metrics: http://{settings.metrics.host}:{endpoint.port}/metrics. Ctrl-C ends it.", flush=True)
        signal.sigwait(ends)
