"""PostgreSQL's versions, for tests that run on each."""

from __future__ import annotations

import os

import pytest

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import binaries_of


def require(major: int) -> None:
    """A version that is not installed may be skipped by a person, never by CI."""
    try:
        binaries_of(major)
    except ForeshardError as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{missing.message} {missing.remedy}")
