"""Foreshard: forecasts shard load and moves buckets of PostgreSQL before a shard saturates."""
