-- How one table is digested: its size, its stored columns in order, and the key that names a row
-- (the primary key, else the index that is its replica identity).
-- Generated columns are left out: each server computes its own. A partition is no table of its own: its root is.
-- rows: what the last ANALYZE, VACUUM or CREATE INDEX counted, but at least one for each 512 bytes, lest an old count
-- make few chunks of a large table. blocks: of the table's largest file.
SELECT f.bytes,
       f.rows,
       f.blocks,
       coalesce(a.columns, '{}') AS columns,
       coalesce(a.types, '{}') AS types,
       k.names,
       k.types
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(pg_table_size(leaf.oid)), 0)::int8 AS bytes,
              coalesce(sum(greatest(leaf.reltuples::int8, pg_table_size(leaf.oid) / 512)), 0)::int8 AS rows,
              coalesce(max(pg_relation_size(leaf.oid) / current_setting('block_size')::int), 0)::int8 AS blocks
         FROM pg_class AS leaf
        WHERE leaf.oid = c.oid
           OR c.relkind = 'p' AND leaf.oid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE p.isleaf)) AS f
 CROSS JOIN LATERAL (
       SELECT array_agg(a.attname::text ORDER BY a.attnum) AS columns,
              array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) AS types
         FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS a
  LEFT JOIN LATERAL (
       SELECT array_agg(a.attname::text ORDER BY part.place) AS names,
              array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY part.place) AS types
         FROM pg_index AS i
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS part (attnum, place)
         JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
        WHERE i.indrelid = c.oid AND i.indisvalid AND part.place <= i.indnkeyatts
          AND (i.indisprimary OR i.indisreplident)
        GROUP BY i.indexrelid, i.indisprimary
        ORDER BY i.indisprimary DESC
        LIMIT 1) AS k ON true
 WHERE n.nspname = %(bucket)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p') AND NOT c.relispartition
