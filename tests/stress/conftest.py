"""Stress tests run on the servers of the integration tests."""

from __future__ import annotations

from tests.integration.conftest import servers

__all__ = ["servers"]
