-- How one table is digested: its stored columns in order, and the key that names a row
-- (the primary key, else the index that is its replica identity).
-- Generated columns are left out: each server computes its own. A partition is no table of its own: its root is.
SELECT CASE c.relkind WHEN 'p' THEN (SELECT coalesce(sum(pg_table_size(p.relid)), 0) FROM pg_partition_tree(c.oid) AS p)
                      ELSE pg_table_size(c.oid) END::bigint AS bytes,
       ARRAY(SELECT a.attname::text
               FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
              ORDER BY a.attnum) AS columns,
       k.names,
       k.types
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
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
