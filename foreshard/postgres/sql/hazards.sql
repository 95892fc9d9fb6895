-- What makes a bucket unfit to be moved: (subject, why, remedy). $1: schemas, $2: tables, $3: their keys.
WITH tables AS (
    SELECT c.oid, c.relname, n.nspname, c.relpersistence, c.relreplident, c.relforcerowsecurity, k.column_name
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN unnest(%(tables)s::text[], %(columns)s::text[]) AS k (table_name, column_name)
             ON k.table_name = c.relname
     WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')
)
SELECT format('%%s.%%s', nspname, relname), 'is unlogged', 'ALTER TABLE … SET LOGGED'
  FROM tables WHERE relpersistence = 'u'
UNION ALL
SELECT format('%%s.%%s', nspname, relname), 'has no primary key to replicate by', 'Add one, led by the distribution column.'
  FROM tables t
 WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary AND i.indimmediate)
UNION ALL
SELECT format('%%s.%%s', nspname, relname), 'has FORCE ROW LEVEL SECURITY', 'Replication cannot apply onto it.'
  FROM tables WHERE relforcerowsecurity
UNION ALL
SELECT format('%%s.%%s.%%s', nspname, relname, t.column_name),
       'is not a plain NOT NULL column', 'The distribution column must be NOT NULL and not generated.'
  FROM tables t
 WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = t.column_name
                                                AND a.attnotnull AND a.attgenerated = '' AND NOT a.attisdropped)
UNION ALL
SELECT format('%%s.%%s: trigger %%s', nspname, relname, g.tgname), 'is ENABLE ALWAYS or REPLICA', 'It would run twice.'
  FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid
 WHERE g.tgenabled IN ('A', 'R') AND NOT g.tgisinternal
UNION ALL
SELECT format('%%s.%%s: %%s', t.nspname, t.relname, f.conname), 'refers to a table outside its bucket', 'Drop that foreign key.'
  FROM tables t JOIN pg_constraint f ON f.conrelid = t.oid AND f.contype = 'f'
  JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE n.nspname <> t.nspname
UNION ALL
SELECT format('subscription %%s', s.subname), 'feeds this bucket', 'Its rows carry an origin and would not travel on.'
  FROM tables t JOIN pg_subscription_rel r ON r.srrelid = t.oid JOIN pg_subscription s ON s.oid = r.srsubid
 WHERE s.subname NOT LIKE 'foreshard\_%%'
UNION ALL
SELECT format('%%I (%%s)', n.nspname, c.relkind), 'holds a materialised view or foreign table', 'Drop it first.'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('m', 'f')
ORDER BY 1, 2
