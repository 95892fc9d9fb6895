-- Bytes of tables, indexes and TOAST per bucket. It opens every one of them, 0.5 ms a bucket in a fresh session, and
-- waits for those that are locked.
SELECT n.nspname::text AS bucket,
       -- NULL if the table was dropped a moment ago.
       sum(coalesce(pg_total_relation_size(c.oid), 0))::bigint AS size_bytes
FROM pg_namespace AS n
-- Each table depends on its schema, and dependencies have an index by it; pg_class has none.
JOIN pg_depend AS d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                   AND d.classid = 'pg_class'::regclass AND d.objsubid = 0
JOIN pg_class AS c ON c.oid = d.objid
WHERE n.nspname = ANY (%(buckets)s)
  AND c.relkind IN ('r', 'm')
GROUP BY n.oid, n.nspname
