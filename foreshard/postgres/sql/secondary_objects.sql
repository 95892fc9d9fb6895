-- What pg_restore creates after the data: plain indexes, foreign keys, user triggers (ours apart).
SELECT format('index %%I.%%I', n.nspname, c.relname)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s)
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT format('foreign key %%I.%%I', n.nspname, f.conname)
  FROM pg_constraint f JOIN pg_namespace n ON n.oid = f.connamespace
 WHERE n.nspname = ANY (%(buckets)s) AND f.contype = 'f'
UNION ALL
SELECT format('trigger %%I.%%I.%%I', n.nspname, c.relname, t.tgname)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s) AND NOT t.tgisinternal AND t.tgname NOT LIKE 'zz\_foreshard%%'
