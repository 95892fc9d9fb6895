-- Stored columns of every table of the buckets, in order. Generated ones are left out: each server computes its own.
SELECT n.nspname::text, c.relname::text,
       array_agg(a.attname::text ORDER BY a.attnum)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 WHERE n.nspname = ANY (%(buckets)s) AND c.relname = ANY (%(tables)s) AND NOT c.relispartition
   AND c.relkind IN ('r', 'p')
 GROUP BY 1, 2
