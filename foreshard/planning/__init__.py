"""Forecasts in, migration plans with reasons out. Pure: the same view and policy give the same decision."""
