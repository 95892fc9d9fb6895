-- Columns and their types: (bucket, table, subject, why, remedy, effect).
-- A table's rows travel in binary form; generated columns do not travel.
WITH RECURSIVE bases AS (
    SELECT oid AS type, oid AS base FROM pg_type
     WHERE typtype <> 'd'
    UNION ALL
    SELECT t.oid, b.base FROM pg_type t JOIN bases b ON b.type = t.typbasetype WHERE t.typtype = 'd'
), columns AS (
    SELECT n.nspname, c.relname, a.attname, t.typname AS declared, b.base,
           format('%%s.%%s.%%s', n.nspname, c.relname, a.attname) AS subject, a.attname = k.column_name AS is_key
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      JOIN pg_type t ON t.oid = a.atttypid
      JOIN bases b ON b.type = a.atttypid
      LEFT JOIN unnest(%(tables)s::text[], %(columns)s::text[]) AS k (table_name, column_name)
             ON k.table_name = c.relname
     WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')
)
-- Routers hash a key as the fleet's type; what hashes otherwise here would belong to another slot. varchar hashes as text.
SELECT nspname, relname, subject, format('is a key of type %%s, not %%s', format_type(base, NULL), array_to_string(%(key_types)s::text[], ' or ')),
       'Give every distribution column the fleet''s key type.' AS remedy, 'blocks' AS effect
  FROM columns
 WHERE is_key AND base <> ALL (%(key_types)s::regtype[]::oid[])
   AND NOT (base = 'varchar'::regtype AND 'text' = ANY (%(key_types)s::text[]))
UNION ALL
-- oid comes from pg_class and its like: another number on another server. Large objects are not replicated at all.
SELECT nspname, relname, subject,
       CASE WHEN base = 'oid'::regtype THEN 'may name large objects, which are not replicated'
            ELSE format('names objects by number (%%s), which is another number on the target', format_type(base, NULL)) END,
       CASE WHEN base = 'oid'::regtype THEN 'Keep the contents as bytea; if it names none, make it bigint.'
            ELSE 'Keep the name as text.' END,
       CASE WHEN base = 'oid'::regtype AND declared <> 'lo' AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
            THEN 'warns' ELSE 'blocks' END
  FROM columns
 WHERE base IN ('oid'::regtype, 'regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
                'regclass'::regtype, 'regtype'::regtype, 'regrole'::regtype, 'regnamespace'::regtype,
                'regconfig'::regtype, 'regdictionary'::regtype, 'regcollation'::regtype)
UNION ALL
SELECT c.nspname, c.relname, c.subject, format('is of type %%s, which has no binary form to copy', format_type(c.base, NULL)),
       'Use another type, e.g. text.', 'blocks'
  FROM columns c
  JOIN pg_type t ON t.oid = c.base
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
 WHERE 0 IN (t.typsend::oid, t.typreceive::oid, coalesce(e.typsend, 1)::oid, coalesce(e.typreceive, 1)::oid)
 ORDER BY 1, 2, 3
