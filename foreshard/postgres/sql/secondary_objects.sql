-- What pg_restore creates after the data: plain indexes, foreign keys, user triggers (ours apart), and what is said
-- about them. Not what follows from a partitioned table's for each of its partitions: each server makes up those names.
SELECT format('index %%I.%%I', n.nspname, c.relname)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s)
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT format('foreign key %%I.%%I', n.nspname, f.conname)
  FROM pg_constraint f JOIN pg_namespace n ON n.oid = f.connamespace
 WHERE n.nspname = ANY (%(buckets)s) AND f.contype = 'f' AND f.conparentid = 0
UNION ALL
SELECT format('trigger %%I.%%I.%%I', n.nspname, c.relname, t.tgname)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s) AND NOT t.tgisinternal AND t.tgparentid = 0
   AND t.tgname NOT LIKE 'zz\_foreshard%%'
UNION ALL
SELECT format('comment on index %%I.%%I', n.nspname, c.relname)
  FROM pg_description d JOIN pg_class c ON c.oid = d.objoid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE d.classoid = 'pg_class'::regclass AND n.nspname = ANY (%(buckets)s) AND c.relkind IN ('i', 'I')
UNION ALL
SELECT format('comment on constraint %%I.%%I of %%s', n.nspname, k.conname, k.conrelid::regclass)
  FROM pg_description d JOIN pg_constraint k ON k.oid = d.objoid JOIN pg_namespace n ON n.oid = k.connamespace
 WHERE d.classoid = 'pg_constraint'::regclass AND n.nspname = ANY (%(buckets)s)
