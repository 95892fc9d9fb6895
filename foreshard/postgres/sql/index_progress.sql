-- How far the indexes that this database is building are, by the pid of the session: the scan of the table is the
-- longer part of it, the loading of what was sorted the other.
SELECT pid,
       CASE WHEN phase LIKE 'building index: loading%' THEN 0.6 + 0.4 * coalesce(tuples_done::float / nullif(tuples_total, 0), 0)
            WHEN phase LIKE 'building index: sorting%' THEN 0.6
            ELSE 0.6 * coalesce(blocks_done::float / nullif(blocks_total, 0), 0) END
  FROM pg_stat_progress_create_index
 WHERE datname = current_database()
