-- Tablespaces, other than the database's own, that the buckets' relations name: (tablespace, an example of such a relation).
SELECT t.spcname, min(format('%%s.%%s', n.nspname, c.relname))
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_tablespace t ON t.oid = c.reltablespace
 WHERE n.nspname = ANY (%(buckets)s)
 GROUP BY 1
 ORDER BY 1
