-- What the tables of one bucket are made of, as (section, object, definition), comparable between servers.
-- Run with the search_path pinned, so that names print qualified on both.
-- Foreshard's own triggers are no part of the application's schema.
WITH tables AS (
    SELECT c.oid, c.relname::text AS name, c.relispartition
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = %(bucket)s AND c.relkind IN ('r', 'p')
)
SELECT 'columns' AS section,
       t.name || '.' || a.attname AS object,
       concat_ws(' ',
           format_type(a.atttypid, a.atttypmod),
           -- Also where it is its type's: a domain of another collation is another column. The database's own collation
           -- has no name here; it is compared by itself.
           CASE WHEN a.attcollation NOT IN (0, '"default"'::regcollation)
                THEN 'COLLATE ' || a.attcollation::regcollation END,
           CASE WHEN a.attnotnull THEN 'NOT NULL' END,
           -- Of a partition it is its root's; 17 and later write it down there, too.
           CASE WHEN NOT t.relispartition
                THEN CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END END,
           CASE WHEN a.attgenerated <> '' THEN 'GENERATED ' || a.attgenerated::text WHEN a.atthasdef THEN 'DEFAULT' END,
           pg_get_expr(d.adbin, d.adrelid),
           (SELECT 'ENUM ' || string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
              FROM pg_enum AS e WHERE e.enumtypid = a.atttypid)) AS definition
  FROM tables AS t
  JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
-- Not the NOT NULL constraints that 18 lists here and 16 and 17 do not: the columns say so already.
SELECT 'constraints',
       t.name || '.' || c.conname,
       pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' (not validated)' END
  FROM tables AS t
  JOIN pg_constraint AS c ON c.conrelid = t.oid AND c.contype IN ('c', 'f', 'p', 'u', 'x')
   -- A foreign key at or to a partitioned table has one more for each partition, with a name that each server makes up.
   AND NOT (c.contype = 'f' AND c.conparentid <> 0)
UNION ALL
SELECT 'constraints',
       t.name || ': partitions',
       concat_ws(' ',
           (SELECT format('OF %%s %%s', i.inhparent::regclass, pg_get_expr(c.relpartbound, c.oid))
              FROM pg_inherits AS i WHERE i.inhrelid = c.oid AND c.relispartition),
           CASE c.relkind WHEN 'p' THEN 'BY ' || pg_get_partkeydef(c.oid) END)
  FROM tables AS t
  JOIN pg_class AS c ON c.oid = t.oid
 WHERE c.relispartition OR c.relkind = 'p'
UNION ALL
SELECT 'indexes',
       t.name || '.' || r.relname,
       concat_ws(' ',
           pg_get_indexdef(i.indexrelid),
           CASE WHEN NOT i.indisvalid THEN '(invalid)' END,
           CASE WHEN NOT i.indisready THEN '(not ready)' END,
           CASE WHEN i.indisprimary THEN '(primary)' END,
           CASE WHEN i.indisreplident THEN '(replica identity)' END)
  FROM tables AS t
  JOIN pg_index AS i ON i.indrelid = t.oid
  JOIN pg_class AS r ON r.oid = i.indexrelid
UNION ALL
SELECT 'triggers',
       t.name || '.' || g.tgname,
       pg_get_triggerdef(g.oid) || ' enabled ' || g.tgenabled::text
  FROM tables AS t
  JOIN pg_trigger AS g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgname NOT LIKE 'zz\_foreshard%%'
 ORDER BY 1, 2
