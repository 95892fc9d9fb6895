"""Prefect's API may be away while a migration runs. The work does not need it; showing and asking do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from foreshard.errors import OrchestratorUnavailable


@contextmanager
def as_interruption() -> Iterator[None]:
    """Inside, an API that does not answer is an interruption, not a failure of the migration.

    A migration that failed is left to people; one that was interrupted goes on by the janitor, when the API is back.

    Raises:
        OrchestratorUnavailable: in the place of what Prefect's client raised.
    """
    try:
        yield
    except httpx.HTTPError as error:
        if not is_away(error):
            raise
        raise OrchestratorUnavailable(
            f"Prefect's API does not answer: {error}",
            remedy="Start its server; the janitor goes on with the migration.",
        ) from error


def is_away(error: httpx.HTTPError) -> bool:
    """Whether the API could not be reached, or answered that it cannot work; not: that a request was wrong."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)
