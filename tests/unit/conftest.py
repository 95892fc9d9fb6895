"""Hypothesis for all unit tests: the same examples in every run, and no clock, since machines differ."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
