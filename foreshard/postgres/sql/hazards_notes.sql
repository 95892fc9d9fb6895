-- What else stands in a bucket's way, or should be known: (bucket, table, subject, why, remedy, effect).
WITH tables AS (
    SELECT c.oid, n.oid AS schema, n.nspname, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
           k.table_name IS NOT NULL AS described
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN unnest(%(tables)s::text[]) AS k (table_name) ON k.table_name = c.relname
     WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')
), shapes AS (  -- as text without the bucket's own name; the order of columns does not count
    SELECT t.nspname, t.relname, md5(concat_ws('; ', t.relkind,
               (SELECT string_agg(format('%%s %%s %%s %%s', a.attname,
                                         replace(format_type(a.atttypid, a.atttypmod), quote_ident(t.nspname) || '.', ''),
                                         a.attnotnull, a.attgenerated), ', ' ORDER BY a.attname)
                  FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped),
               (SELECT string_agg(d.definition, ', ' ORDER BY d.definition)
                  FROM pg_constraint f
                 CROSS JOIN LATERAL (SELECT replace(pg_get_constraintdef(f.oid), quote_ident(t.nspname) || '.', '')) AS d (definition)
                 WHERE f.conrelid = t.oid AND f.contype <> 'n'))) AS shape
      FROM tables t
     WHERE t.described
), usual AS (
    SELECT s.relname, u.shape, min(s.nspname) AS bucket
      FROM shapes s
      JOIN (SELECT relname, mode() WITHIN GROUP (ORDER BY shape) AS shape FROM shapes GROUP BY relname) u USING (relname, shape)
     GROUP BY 1, 2
)
SELECT s.nspname, s.relname, format('%%s.%%s', s.nspname, s.relname),
       format('has other columns or constraints than %%s.%%s', u.bucket, u.relname),
       'It moves as it is; an application that expects all buckets alike may stumble on either shard.' AS remedy, 'warns' AS effect
  FROM shapes s JOIN usual u USING (relname)
 WHERE s.shape <> u.shape
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s', t.nspname, t.relname),
       format('has row level security, with %%s policies for %%s', count(p.oid),
              coalesce(string_agg(DISTINCT coalesce(r.rolname, 'everybody'), ', '), 'nobody')),
       'Rows are copied and applied as the owner, whom policies do not hold; the policies are copied with the table.', 'warns'
  FROM tables t
  LEFT JOIN pg_policy p ON p.polrelid = t.oid
  LEFT JOIN pg_roles r ON r.oid = ANY (p.polroles)
 WHERE t.relrowsecurity AND NOT t.relforcerowsecurity
 GROUP BY t.nspname, t.relname
UNION ALL
-- The guard judges the row as the triggers before it left it; they fire in the order of their names' bytes.
SELECT t.nspname, t.relname, format('%%s.%%s: trigger %%s', t.nspname, t.relname, g.tgname),
       'fires after the guard and could change a key that it has judged', 'Give it a name that sorts before zz_foreshard.', 'blocks'
  FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid
 WHERE NOT g.tgisinternal AND g.tgtype & 3 = 3 AND g.tgname::text COLLATE "C" > 'zz_foreshard_guard'
   AND g.tgname NOT LIKE 'zz\_foreshard%%'
UNION ALL
SELECT n.nspname, NULL, format('extension %%s', e.extname), format('is installed in %%s, where it would not be copied', n.nspname),
       'ALTER EXTENSION … SET SCHEMA a schema outside every bucket.', 'blocks'
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE n.nspname = ANY (%(buckets)s)
 ORDER BY 1, 2, 3, 4
