-- When the collector last took a sample of each shard (fleet clock). One that was silent for an hour has none: all of
-- its past would be searched.
SELECT s.name, max(l.ts)
FROM load_metrics AS m
JOIN load_raw AS l
  ON l.metric = m.id AND l.ts > %(now)s::timestamptz - interval '1 hour' AND l.ts <= %(now)s::timestamptz
JOIN load_shards AS s ON s.id = l.shard
WHERE m.name = %(metric)s AND l.live > 0
GROUP BY s.name
