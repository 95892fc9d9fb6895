-- Fills the gaps of rows that are there already; what they know stays as it is. Returns the new values of each row.
WITH given AS (
    SELECT metric, ts, shard, live, amounts::real[] AS amounts
    FROM unnest(%(metric)s::integer[], %(ts)s::timestamptz[], %(shard)s::integer[], %(live)s::integer[],
                %(amounts)s::text[]) AS given (metric, ts, shard, live, amounts)
),
-- Locked in the order of the key, and as they are now: another one may just have filled them.
known AS MATERIALIZED (
    SELECT l.metric, l.ts, l.shard, l.amounts, g.amounts AS more, g.live > 0 AS live
    FROM load_raw AS l
    JOIN given AS g USING (metric, ts, shard)
    ORDER BY l.metric, l.ts, l.shard
    FOR UPDATE OF l
),
filled AS (
    SELECT k.metric, k.ts, k.shard, k.live, both_of.amounts, both_of.fresh
    FROM known AS k
    CROSS JOIN LATERAL (
        SELECT array_agg(coalesce(old, new) ORDER BY position) AS amounts,
               count(*) FILTER (WHERE old IS NULL AND new IS NOT NULL)::integer AS fresh
        FROM unnest(k.amounts, k.more) WITH ORDINALITY AS u (old, new, position)
    ) AS both_of
    WHERE both_of.fresh > 0
)
UPDATE load_raw AS l
SET amounts = f.amounts, live = l.live + CASE WHEN f.live THEN f.fresh ELSE 0 END
FROM filled AS f
WHERE (l.metric, l.ts, l.shard) = (f.metric, f.ts, f.shard)
RETURNING f.fresh
