-- Lag and kept WAL of the streams of migrations that have not ended, as read in the last minutes: what a runner that
-- left read once says nothing of now.
SELECT r.migration_id, r.forward_lag_bytes, r.forward_lag_s, r.source_wal_bytes,
       r.reverse_lag_bytes, r.reverse_lag_s, r.target_wal_bytes
FROM stream_readings AS r
JOIN migrations AS m ON m.id = r.migration_id
WHERE m.finished_at IS NULL AND r.read_at > clock_timestamp() - interval '3 minutes'
