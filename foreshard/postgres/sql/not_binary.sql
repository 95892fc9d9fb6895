-- Types in the tables of a migration's buckets whose binary form means nothing on another server, or that have none.
-- Arrays and composites carry the oids of what they are made of, and those below 16384 alone are alike everywhere;
-- a regclass is nothing but an oid.
WITH RECURSIVE used (oid) AS (
    SELECT a.atttypid
      FROM foreshard.moving m
      JOIN pg_namespace n ON n.nspname = m.bucket
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE m.migration = %(migration)s
    UNION
    SELECT part.oid
      FROM used JOIN pg_type t USING (oid)
     CROSS JOIN LATERAL (
           SELECT t.typbasetype WHERE t.typtype = 'd'
           UNION ALL
           SELECT t.typelem WHERE t.typelem <> 0
           UNION ALL
           SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
           UNION ALL
           SELECT a.atttypid FROM pg_attribute a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS part (oid)
)
SELECT format_type(t.oid, NULL)
  FROM used JOIN pg_type t USING (oid)
 WHERE t.typsend = 0
    OR t.typcategory = 'A' AND t.typelem >= 16384
    OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND a.atttypid >= 16384)
    OR t.typnamespace = 'pg_catalog'::regnamespace AND starts_with(t.typname, 'reg')
