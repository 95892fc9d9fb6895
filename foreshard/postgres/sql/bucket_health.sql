-- What is not as it should be in one bucket at rest: (kind, name, what, ours). ours: what a migration makes there.
SELECT 'index' AS kind, c.relname::text AS name,
       CASE WHEN i.indisready THEN 'is INVALID: queries do not use it' ELSE 'is not ready: writes do not keep it' END AS what,
       false AS ours
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(bucket)s AND NOT (i.indisvalid AND i.indisready)
UNION ALL
SELECT 'constraint', format('%%s.%%s', c.relname, k.conname), 'is NOT VALID: rows may break it', false
  FROM pg_constraint AS k
  JOIN pg_class AS c ON c.oid = k.conrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(bucket)s AND NOT k.convalidated
UNION ALL
SELECT 'trigger', format('%%s.%%s', c.relname, t.tgname), 'is disabled', false
  FROM pg_trigger AS t
  JOIN pg_class AS c ON c.oid = t.tgrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(bucket)s AND t.tgenabled = 'D'
UNION ALL
SELECT 'trigger', format('%%s.%%s', c.relname, t.tgname), 'is a guard that an ended migration left', true
  FROM pg_trigger AS t
  JOIN pg_class AS c ON c.oid = t.tgrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(bucket)s AND t.tgname = ANY (%(ours)s)
UNION ALL
SELECT 'publication', p.pubname::text, format('of an ended migration publishes %%s', c.relname), true
  FROM pg_publication_rel AS r
  JOIN pg_publication AS p ON p.oid = r.prpubid
  JOIN pg_class AS c ON c.oid = r.prrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(bucket)s AND p.pubname ~ '^foreshard_.+_[0-9]+$'
 ORDER BY 1, 2, 3
