-- Triggers of the application, whose functions may write anywhere: (bucket, table, subject, why, remedy). PostgreSQL's own write nowhere.
SELECT n.nspname, c.relname, format('%%I.%%I: trigger %%I', n.nspname, c.relname, g.tgname),
       format('what %%s writes cannot be known', g.tgfoid::regprocedure),
       'Rows that it writes outside the bucket are not moved, and are written on the shard that owns the key.'
  FROM pg_trigger g
  JOIN pg_class c ON c.oid = g.tgrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_proc p ON p.oid = g.tgfoid
 WHERE n.nspname = ANY (%(buckets)s) AND NOT g.tgisinternal AND g.tgenabled <> 'D'
   AND g.tgname NOT LIKE 'zz\_foreshard%%' AND p.pronamespace <> 'pg_catalog'::regnamespace
 ORDER BY 1, 2, 3
