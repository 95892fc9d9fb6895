-- Every table of the buckets that holds rows, with the table of the fleet that it is part of: partitions, and tables
-- that are not partitioned. Blocks of the heap, and bytes with TOAST.
SELECT n.nspname::text, c.relname::text, ln.nspname::text, l.relname::text,
       pg_relation_size(l.oid) / current_setting('block_size')::int, pg_table_size(l.oid)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT c.oid AS leaf WHERE c.relkind = 'r'
                     UNION ALL
                     SELECT p.relid FROM pg_partition_tree(c.oid) p WHERE c.relkind = 'p' AND p.isleaf) AS part
  JOIN pg_class l ON l.oid = part.leaf AND l.relkind = 'r'
  JOIN pg_namespace ln ON ln.oid = l.relnamespace
 WHERE n.nspname = ANY (%(buckets)s) AND c.relname = ANY (%(tables)s) AND NOT c.relispartition
 ORDER BY 1, 2, 3, 4
