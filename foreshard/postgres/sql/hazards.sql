-- What makes a bucket unfit to be moved: (bucket, table, subject, why, remedy).
WITH tables AS (
    SELECT c.oid, c.relname, n.nspname, c.relkind, c.relpersistence, c.relreplident, c.relforcerowsecurity, k.column_name
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN unnest(%(tables)s::text[], %(columns)s::text[]) AS k (table_name, column_name)
             ON k.table_name = c.relname
     WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')
)
SELECT nspname, relname, format('%%s.%%s', nspname, relname), 'is unlogged', 'ALTER TABLE … SET LOGGED'
  FROM tables WHERE relpersistence = 'u'
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s', nspname, relname), 'has no primary key to replicate by', 'Add one, led by the distribution column.'
  FROM tables t
 WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary AND i.indimmediate)
UNION ALL
-- The target finds rows by the primary key from the first copied row on: another identity is not there yet, or is none.
SELECT nspname, relname, format('%%s.%%s', nspname, relname),
       'has REPLICA IDENTITY ' || CASE relreplident WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL' ELSE 'USING INDEX' END,
       'ALTER TABLE … REPLICA IDENTITY DEFAULT until it has moved: its primary key tells its rows apart.'
  FROM tables WHERE relreplident <> 'd'
UNION ALL
SELECT nspname, relname, format('%%s.%%s', nspname, relname), 'is partitioned',
       'Buckets with partitioned tables are not moved yet: a partition that comes or goes meanwhile would lose rows.'
  FROM tables WHERE relkind = 'p'
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s', t.nspname, t.relname), 'inherits from another table, or another one from it',
       'ALTER TABLE … NO INHERIT: its rows would be found under two tables.'
  FROM tables t
 WHERE t.relkind = 'r'
   AND EXISTS (SELECT FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
                WHERE t.oid IN (h.inhrelid, h.inhparent) AND p.relkind = 'r')
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s: rule %%s', t.nspname, t.relname, w.rulename), 'rewrites statements',
       'Drop that rule, or make it a trigger: a guard cannot tell whose rows it writes, and it is not copied.'
  FROM tables t JOIN pg_rewrite w ON w.ev_class = t.oid
UNION ALL
SELECT n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname), format('belongs to %%s, which we may not act for', c.relowner::regrole),
       'ALTER … OWNER TO the owner of the other buckets, or grant that role to the operator, on both shards.'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p', 'S', 'v')
   AND NOT (pg_has_role(c.relowner, 'USAGE') AND pg_has_role(c.relowner, 'SET'))
UNION ALL
SELECT nspname, relname, format('%%s.%%s', nspname, relname), 'has FORCE ROW LEVEL SECURITY', 'Replication cannot apply onto it.'
  FROM tables WHERE relforcerowsecurity
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s.%%s', nspname, relname, t.column_name),
       'is not a plain NOT NULL column', 'The distribution column must be NOT NULL and not generated.'
  FROM tables t
 WHERE t.column_name IS NOT NULL  -- else it is not in the fleet's description, which is said elsewhere
   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = t.column_name
                                                AND a.attnotnull AND a.attgenerated = '' AND NOT a.attisdropped)
UNION ALL
-- Equal keys with different bytes would be hashed to different slots.
SELECT t.nspname, t.relname, format('%%s.%%s.%%s', t.nspname, t.relname, a.attname), 'has a collation that is not deterministic',
       'The distribution column needs a deterministic collation.'
  FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = t.column_name
  JOIN pg_collation l ON l.oid = a.attcollation
 WHERE NOT l.collisdeterministic
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s.%%s', t.nspname, t.relname, a.attname),
       format('takes values from %%s, a sequence outside its bucket', d.refobjid::regclass),
       'Give the column a sequence of its own in the bucket: that one stays behind.'
  FROM tables t
  JOIN pg_attrdef f ON f.adrelid = t.oid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = f.adnum
  JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class q ON q.oid = d.refobjid AND q.relkind = 'S'
  JOIN pg_namespace s ON s.oid = q.relnamespace
 WHERE s.nspname <> t.nspname
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s: trigger %%s', nspname, relname, g.tgname), 'is ENABLE ALWAYS or REPLICA', 'It would run twice.'
  FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid
 WHERE g.tgenabled IN ('A', 'R') AND NOT g.tgisinternal
UNION ALL
SELECT t.nspname, t.relname, format('%%s.%%s: %%s', t.nspname, t.relname, f.conname), 'refers to a table outside its bucket', 'Drop that foreign key.'
  FROM tables t JOIN pg_constraint f ON f.conrelid = t.oid AND f.contype = 'f'
  JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE n.nspname <> t.nspname
UNION ALL
SELECT t.nspname, t.relname, format('subscription %%s', s.subname), 'feeds this bucket', 'Its rows carry an origin and would not travel on.'
  FROM tables t JOIN pg_subscription_rel r ON r.srrelid = t.oid JOIN pg_subscription s ON s.oid = r.srsubid
 WHERE s.subname NOT LIKE 'foreshard\_%%'
UNION ALL
SELECT n.nspname, c.relname, format('%%s.%%s', n.nspname, c.relname), 'is a materialised view or a foreign table', 'Drop it first.'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('m', 'f')
ORDER BY 1, 2, 3, 4
