-- What of a table decides whether it can be replicated at all. A partitioned one is as good as the worst of its
-- partitions; its kind is theirs if they are no tables.
SELECT n.nspname::text AS bucket,
       c.relname::text AS name,
       coalesce(min(m.relkind::text) FILTER (WHERE m.relkind NOT IN ('r', 'p')), c.relkind::text) AS kind,
       coalesce(min(m.relpersistence::text) FILTER (WHERE m.relpersistence <> 'p'), 'p') AS persistence,
       bool_or(m.relforcerowsecurity) AS forced_row_security,
       bool_and(EXISTS (SELECT FROM pg_index AS i
                         WHERE i.indrelid = m.oid AND i.indisvalid AND i.indimmediate
                           AND CASE m.relreplident WHEN 'd' THEN i.indisprimary
                                                   WHEN 'i' THEN i.indisreplident
                                                   ELSE false END)) AS has_replica_identity
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) AS part (oid)
  JOIN pg_class AS m ON m.oid = part.oid
 WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
 GROUP BY c.oid, n.nspname, c.relname, c.relkind
 ORDER BY 1, 2
