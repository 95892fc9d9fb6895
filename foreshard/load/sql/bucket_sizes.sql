-- Bytes of tables, indexes and TOAST per bucket. It opens every one of them, 0.5 ms a bucket in a fresh session, and
-- waits for those that are locked.
SELECT n.nspname::text AS bucket,
       -- NULL if the table was dropped a moment ago.
       sum(coalesce(pg_total_relation_size(c.oid), 0))::bigint AS size_bytes
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid
WHERE n.nspname = ANY (%(buckets)s)
  AND c.relkind IN ('r', 'm')
GROUP BY n.oid, n.nspname
