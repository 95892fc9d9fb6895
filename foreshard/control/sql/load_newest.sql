-- The newest live value of each metric of a shard as a whole. Only near the newest sample of all: a shard that has
-- been silent for an hour would have all of its past searched.
WITH newest AS (
    SELECT max(one.ts) AS ts FROM load_metrics AS m
    CROSS JOIN LATERAL (SELECT ts FROM load_raw WHERE metric = m.id ORDER BY ts DESC LIMIT 1) AS one
)
SELECT one.ts, m.name, one.value
FROM load_metrics AS m
CROSS JOIN newest
CROSS JOIN LATERAL (
    SELECT l.ts, l.amounts[1] AS value FROM load_raw AS l
    JOIN load_shards AS s ON s.id = l.shard AND s.name = %(shard)s
    WHERE l.metric = m.id AND l.ts > newest.ts - interval '1 hour' AND l.live > 0 AND l.amounts[1] IS NOT NULL
    ORDER BY l.ts DESC LIMIT 1
) AS one
ORDER BY one.ts DESC, m.name
