-- WAL that slots keep: (name, wal_status, retained bytes, safe bytes, limit in bytes or NULL).
-- slots: regular expressions. restart_lsn is NULL once the slot is lost.
SELECT s.slot_name::text, s.wal_status,
       pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint,
       s.safe_wal_size,
       (SELECT nullif(g.setting::bigint, -1) * 1024 * 1024 FROM pg_settings g
         WHERE g.name = 'max_slot_wal_keep_size')
  FROM pg_replication_slots s
 WHERE s.slot_name ~ ANY (%(slots)s)
 ORDER BY 1
