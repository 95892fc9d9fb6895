-- Physical standbys: (name, its slot, has flushed %(lsn)s). A slot without its standby is one that is away.
-- Subscriptions and base backups are walsenders too: a logical one always has a slot, a backup streams by a temporary one.
SELECT coalesce(nullif(r.application_name, ''), s.slot_name) AS name, s.slot_name,
       coalesce(r.flush_lsn >= %(lsn)s::pg_lsn, false) AS has
  FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
 WHERE s.slot_type IS DISTINCT FROM 'logical' AND s.temporary IS NOT TRUE AND r.state <> 'backup'
UNION ALL
SELECT s.slot_name, s.slot_name, false
  FROM pg_replication_slots s
 WHERE s.slot_type = 'physical' AND NOT s.active AND NOT s.temporary AND s.restart_lsn IS NOT NULL
 ORDER BY 1
