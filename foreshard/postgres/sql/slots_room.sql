-- WAL that slots keep, and their readers' lag:
-- (name, wal_status, retained bytes, safe bytes, limit in bytes or NULL, unconfirmed bytes, lag in seconds).
-- slots: regular expressions. restart_lsn is NULL once the slot is lost. Of an idle reader replay_lag is NULL: it has
-- confirmed all that it was sent; without a reader nobody can say how late it is.
SELECT s.slot_name::text, s.wal_status,
       pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint,
       s.safe_wal_size,
       (SELECT nullif(g.setting::bigint, -1) * 1024 * 1024 FROM pg_settings g
         WHERE g.name = 'max_slot_wal_keep_size'),
       pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint,
       CASE WHEN r.pid IS NOT NULL THEN coalesce(extract(epoch FROM r.replay_lag)::float8, 0) END
  FROM pg_replication_slots s
  LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
 WHERE s.slot_name ~ ANY (%(slots)s)
 ORDER BY 1
