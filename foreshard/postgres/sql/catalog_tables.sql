-- What of a table decides whether it can be replicated at all.
SELECT n.nspname::text AS bucket,
       c.relname::text AS name,
       c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       c.relforcerowsecurity AS forced_row_security,
       EXISTS (SELECT FROM pg_index AS i
                WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
                  AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
                                          WHEN 'i' THEN i.indisreplident
                                          ELSE false END) AS has_replica_identity
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')
 ORDER BY 1, 2
