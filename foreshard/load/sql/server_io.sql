-- What the server asked of the operating system for tables and indexes, found in its cache or not. WAL is left out: it
-- has a metric of its own, and before version 18 this view does not count it.
SELECT max(stats_reset) AS io_reset,
       sum(coalesce(reads, 0) + coalesce(writes, 0) + coalesce(extends, 0))::bigint AS io_ops,
       sum(coalesce(read_bytes, 0) + coalesce(write_bytes, 0) + coalesce(extend_bytes, 0))::bigint AS io_bytes
FROM pg_stat_io
WHERE object <> 'wal'
