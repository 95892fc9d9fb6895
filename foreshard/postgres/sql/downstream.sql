-- Who else reads or changes what is in this database: (kind, name, detail).
SELECT 'publication' AS kind, p.pubname::text AS name,
       CASE WHEN p.puballtables THEN 'all tables' ELSE format('%%s tables', t.tables) END AS detail
  FROM pg_publication p
 CROSS JOIN LATERAL (
    SELECT count(DISTINCT c.oid) AS tables
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ANY (%(buckets)s)
     WHERE c.relkind IN ('r', 'p')
       AND (EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
            OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = n.oid))) AS t
 WHERE (p.puballtables OR t.tables > 0) AND p.pubname !~ '^foreshard_'
UNION ALL
SELECT 'slot', slot_name, format('plugin %%s', plugin)
  FROM pg_replication_slots
 WHERE slot_type = 'logical' AND database = current_database() AND NOT temporary
   AND slot_name !~ '^foreshard_' AND slot_name !~ '^pg_[0-9]+_sync_[0-9]+_[0-9]+$'
UNION ALL
SELECT 'event trigger', evtname, evtevent FROM pg_event_trigger WHERE evtenabled <> 'D'
UNION ALL
SELECT 'scheduler', format('%%s.%%s', n.nspname, c.relname), 'pg_cron'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'cron' AND c.relname = 'job' AND c.relkind = 'r'
 ORDER BY 1, 2
