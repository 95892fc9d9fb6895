-- What the tables of one bucket are made of, as (section, object, definition), comparable between servers.
-- Run with the search_path pinned, so that names print qualified on both.
-- Foreshard's own triggers are no part of the application's schema.
WITH tables AS (
    SELECT c.oid, c.relname::text AS name
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = %(bucket)s AND c.relkind IN ('r', 'p')
)
SELECT 'columns' AS section,
       t.name || '.' || a.attname AS object,
       concat_ws(' ',
           format_type(a.atttypid, a.atttypmod),
           (SELECT 'COLLATE ' || quote_ident(l.collname)
              FROM pg_collation AS l WHERE l.oid = a.attcollation AND a.attcollation <> ty.typcollation),
           CASE WHEN a.attnotnull THEN 'NOT NULL' END,
           CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
           CASE WHEN a.attgenerated <> '' THEN 'GENERATED ' || a.attgenerated::text WHEN a.atthasdef THEN 'DEFAULT' END,
           pg_get_expr(d.adbin, d.adrelid),
           (SELECT 'ENUM ' || string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
              FROM pg_enum AS e WHERE e.enumtypid = a.atttypid)) AS definition
  FROM tables AS t
  JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type AS ty ON ty.oid = a.atttypid
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
-- Not the NOT NULL constraints that 18 lists here and 16 and 17 do not: the columns say so already.
SELECT 'constraints',
       t.name || '.' || c.conname,
       pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' (not validated)' END
  FROM tables AS t
  JOIN pg_constraint AS c ON c.conrelid = t.oid AND c.contype IN ('c', 'f', 'p', 'u', 'x')
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
