-- Columns and their types: (bucket, table, subject, why, remedy, effect).
-- A partition has the columns of its table; generated columns do not travel.
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
     WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
)
-- Routers hash a key as the fleet's type; what hashes otherwise here would belong to another slot. varchar hashes as text.
SELECT nspname, relname, subject, format('is a key of type %%s, not %%s', format_type(base, NULL), array_to_string(%(key_types)s::text[], ' or ')),
       'Give every distribution column the fleet''s key type.' AS remedy, 'blocks' AS effect
  FROM columns
 WHERE is_key AND base <> ALL (%(key_types)s::regtype[]::oid[])
   AND NOT (base = 'varchar'::regtype AND 'text' = ANY (%(key_types)s::text[]))
UNION ALL
-- Large objects are not replicated at all. A regclass and its like travel by the name of what they are the number of.
SELECT nspname, relname, subject,
       CASE WHEN base = 'oid'::regtype THEN 'may name large objects, which are not replicated'
            ELSE format('names objects of the database (%%s): a row is not applied where the target lacks one', format_type(base, NULL)) END,
       CASE WHEN base = 'oid'::regtype THEN 'Keep the contents as bytea; if it names none, make it bigint.'
            ELSE 'Make sure that all it names are there.' END,
       CASE WHEN base <> 'oid'::regtype OR declared <> 'lo' AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
            THEN 'warns' ELSE 'blocks' END
  FROM columns
 WHERE base IN ('oid'::regtype, 'regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
                'regclass'::regtype, 'regtype'::regtype, 'regrole'::regtype, 'regnamespace'::regtype,
                'regconfig'::regtype, 'regdictionary'::regtype, 'regcollation'::regtype)
 ORDER BY 1, 2, 3
