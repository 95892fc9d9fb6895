-- Which server this is, since when it counts, what time it has; and totals of the database and of its WAL.
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS server,
       -- The insert position's: the control file's changes only at the checkpoint after a promotion. None in recovery.
       CASE WHEN NOT pg_is_in_recovery()
            THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END AS timeline,
       d.datid::bigint AS database,
       pg_postmaster_start_time() AS started_at,
       d.stats_reset AS database_reset,
       pg_stat_get_bgwriter_stat_reset_time() AS bgwriter_reset,
       w.stats_reset AS wal_reset,
       clock_timestamp() AS server_clock,
       d.xact_commit + d.xact_rollback AS transactions,
       w.wal_bytes::bigint AS wal_bytes
FROM pg_stat_database AS d, pg_stat_wal AS w
WHERE d.datname = current_database()
