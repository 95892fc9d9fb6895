-- As server_io.sql, where every operation counts as one block.
SELECT max(stats_reset) AS io_reset,
       sum(coalesce(reads, 0) + coalesce(writes, 0) + coalesce(extends, 0))::bigint AS io_ops,
       sum((coalesce(reads, 0) + coalesce(writes, 0) + coalesce(extends, 0)) * op_bytes)::bigint AS io_bytes
FROM pg_stat_io
