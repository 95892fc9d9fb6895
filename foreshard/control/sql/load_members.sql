-- New buckets of one shard, behind those that it has. The caller holds the shard's row, so that positions are not
-- given twice.
INSERT INTO load_members (shard, position, bucket)
SELECT %(shard)s, taken.last + new.number, new.bucket
FROM (SELECT coalesce(max(position), 0) AS last FROM load_members WHERE shard = %(shard)s) AS taken
CROSS JOIN (
    SELECT bucket, row_number() OVER (ORDER BY number)::integer AS number
    FROM unnest(%(buckets)s::text[]) WITH ORDINALITY AS given (bucket, number)
    WHERE NOT EXISTS (SELECT FROM load_members WHERE shard = %(shard)s AND load_members.bucket = given.bucket)
) AS new
