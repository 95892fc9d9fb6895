-- A forecast of the shards as a whole.
SELECT shard, metric, starts_at, quantiles, peak, coverage
FROM forecast_bands
WHERE run_id = %(run)s AND shard <> '' AND bucket = ''
