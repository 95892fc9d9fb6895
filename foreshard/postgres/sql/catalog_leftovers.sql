-- How many relations each of the named schemas holds here; 0 too for a schema that is not there.
SELECT b.bucket, count(c.oid)::int AS relations
  FROM unnest(%(buckets)s::text[]) AS b (bucket)
  LEFT JOIN pg_namespace AS n ON n.nspname = b.bucket
  LEFT JOIN pg_class AS c ON c.relnamespace = n.oid
 GROUP BY 1
 ORDER BY 1
