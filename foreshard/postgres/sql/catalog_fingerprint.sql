-- One hash over everything that DDL on the schemas would change; nothing that ordinary work changes.
-- Raw catalog values with their oids, for one server's eyes only: dropping a table and making it anew changes
-- the hash, and must, since publications would have lost it. Foreshard's own triggers are left out.
WITH schemas AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = ANY (%(schemas)s)),
     relations AS (SELECT c.* FROM pg_class AS c JOIN schemas AS s ON s.oid = c.relnamespace),
     facts (fact) AS (
    SELECT concat_ws('|', 'schema', oid, nspname) FROM schemas
    UNION ALL
    SELECT concat_ws('|', 'relation', oid, relname, relnamespace, relkind, relpersistence, relreplident, relowner,
                     relispartition, relrowsecurity, relforcerowsecurity, reltype)
      FROM relations
    UNION ALL
    SELECT concat_ws('|', 'column', attrelid, attnum, attname, atttypid, atttypmod, attnotnull, attidentity,
                     attgenerated, attcollation, attisdropped, d.adbin)
      FROM pg_attribute AS a
      JOIN relations AS r ON r.oid = a.attrelid AND a.attnum > 0
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT concat_ws('|', 'constraint', c.oid, c.conrelid, c.conname, c.contype, c.convalidated, c.condeferrable,
                     c.condeferred, c.conkey, c.confrelid, c.confkey, c.conbin)
      FROM pg_constraint AS c JOIN schemas AS s ON s.oid = c.connamespace
    UNION ALL
    SELECT concat_ws('|', 'index', i.indexrelid, i.indrelid, i.indkey, i.indclass, i.indcollation, i.indoption,
                     i.indisunique, i.indisprimary, i.indisvalid, i.indisreplident, i.indexprs, i.indpred)
      FROM pg_index AS i JOIN relations AS r ON r.oid = i.indrelid
    UNION ALL
    SELECT concat_ws('|', 'trigger', g.oid, g.tgrelid, g.tgname, g.tgfoid, g.tgtype, g.tgenabled, g.tgqual)
      FROM pg_trigger AS g JOIN relations AS r ON r.oid = g.tgrelid
     WHERE NOT g.tgisinternal AND g.tgname NOT LIKE 'zz\_foreshard%%'
    UNION ALL
    SELECT concat_ws('|', 'function', p.oid, p.proname, p.prosrc, p.proconfig)
      FROM pg_proc AS p JOIN schemas AS s ON s.oid = p.pronamespace
    UNION ALL
    SELECT concat_ws('|', 'label', e.enumtypid, e.enumsortorder, e.enumlabel)
      FROM pg_enum AS e JOIN pg_type AS t ON t.oid = e.enumtypid JOIN schemas AS s ON s.oid = t.typnamespace
    UNION ALL
    SELECT concat_ws('|', 'inherits', i.inhrelid, i.inhparent, i.inhdetachpending)
      FROM pg_inherits AS i JOIN relations AS r ON r.oid = i.inhparent
    UNION ALL
    SELECT concat_ws('|', 'rule', w.oid, w.ev_class, w.ev_type, w.ev_enabled, w.ev_action)
      FROM pg_rewrite AS w JOIN relations AS r ON r.oid = w.ev_class
)
SELECT encode(sha256(convert_to(coalesce(string_agg(fact, E'\n' ORDER BY fact COLLATE "C"), ''), 'UTF8')), 'hex')
  FROM facts
