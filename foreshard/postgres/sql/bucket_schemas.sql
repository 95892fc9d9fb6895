-- Which schemas are buckets, by LIKE or by name, and whether we may look inside.
SELECT nspname, has_schema_privilege(oid, 'USAGE')
  FROM pg_namespace
 WHERE (nspname LIKE %(pattern)s OR nspname = ANY (%(names)s))
   AND nspname !~ '^(pg_|foreshard_)' AND nspname NOT IN ('information_schema', 'foreshard')
 ORDER BY nspname COLLATE "C"
