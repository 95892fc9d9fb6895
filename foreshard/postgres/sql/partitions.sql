-- Schema and name of every partition of a table, at whatever level; none of a table that is not partitioned.
SELECT n.nspname::text, c.relname::text
  FROM pg_partition_tree(%(table)s::regclass) p
  JOIN pg_class c ON c.oid = p.relid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.level > 0
 ORDER BY 1, 2
