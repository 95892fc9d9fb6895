-- Means of windows, in the place of those that are there.
INSERT INTO {table} AS known (metric, ts, shard, live, amounts)
SELECT metric, ts, shard, live, amounts::real[]
FROM unnest(%(metric)s::integer[], %(ts)s::timestamptz[], %(shard)s::integer[], %(live)s::integer[],
            %(amounts)s::text[]) AS given (metric, ts, shard, live, amounts)
ON CONFLICT (metric, ts, shard) DO UPDATE SET live = excluded.live, amounts = excluded.amounts
WHERE (known.live, known.amounts) IS DISTINCT FROM (excluded.live, excluded.amounts)
