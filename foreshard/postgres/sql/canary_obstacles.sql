-- Constraints that two owners of one bucket could break between them, since each checks its own rows only:
-- (bucket, table, subject, why, remedy). Of a partition only what is its own; the rest is its root's.
WITH keys AS (
    SELECT c.oid, n.nspname, c.relname, a.attnum, a.attname
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_class root ON root.oid = pg_partition_root(c.oid)
      JOIN unnest(%(tables)s::text[], %(columns)s::text[]) AS k (table_name, column_name)
        ON k.table_name = coalesce(root.relname, c.relname)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = k.column_name
     WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')
)
SELECT k.nspname, k.relname, format('unique index %%s on %%s', i.indexrelid::regclass, i.indrelid::regclass),
       format('does not hold %%s', k.attname), 'Add the distribution column to it, if that is what it means.'
  FROM keys k JOIN pg_index i ON i.indrelid = k.oid JOIN pg_class ic ON ic.oid = i.indexrelid
 WHERE NOT ic.relispartition AND i.indisunique AND NOT k.attnum = ANY (i.indkey::int2[])
UNION ALL
SELECT k.nspname, k.relname, format('foreign key %%s on %%s', f.conname, f.conrelid::regclass),
       'does not pair the distribution columns', 'Add the distribution column to both ends of it.'
  FROM keys k JOIN pg_constraint f ON f.conrelid = k.oid AND f.contype = 'f' AND f.conparentid = 0
  JOIN keys r ON r.oid = f.confrelid
 WHERE NOT EXISTS (SELECT FROM unnest(f.conkey, f.confkey) AS pair (here, there)
                    WHERE pair.here = k.attnum AND pair.there = r.attnum)
ORDER BY 1, 2, 3
