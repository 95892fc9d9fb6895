-- Rows that are not there yet. In the order of the key: who adds the same at the same time waits, and never in a ring.
INSERT INTO {table} (metric, ts, shard, live, amounts)
SELECT metric, ts, shard, live, amounts::real[]
FROM unnest(%(metric)s::integer[], %(ts)s::timestamptz[], %(shard)s::integer[], %(live)s::integer[],
            %(amounts)s::text[]) AS given (metric, ts, shard, live, amounts)
ORDER BY metric, ts, shard
ON CONFLICT DO NOTHING
RETURNING metric, ts, shard
