SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint AS lag_bytes
  FROM pg_replication_slots
 WHERE slot_name = %(slot)s
