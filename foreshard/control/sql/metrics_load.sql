-- Mean load of every shard as a whole in the last minutes (fleet clock).
SELECT s.name, m.name, avg(l.amounts[1])::float8
FROM load_metrics AS m
JOIN load_raw AS l
  ON l.metric = m.id AND l.ts > %(now)s::timestamptz - %(present)s::interval AND l.ts <= %(now)s::timestamptz
JOIN load_shards AS s ON s.id = l.shard
WHERE m.name = ANY (%(metrics)s) AND l.amounts[1] IS NOT NULL
GROUP BY s.name, m.name
