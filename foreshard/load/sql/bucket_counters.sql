-- Totals per bucket, straight from the counters: the pg_stat_* views would join indexes to their tables first.
-- A bucket's indexes stand in its own schema, so one pass over pg_class is enough.
SELECT n.nspname::text AS bucket,
       -- Which tables and indexes these are: totals of others say nothing about what was done meanwhile.
       bit_xor(hashint8extended(c.oid::bigint, 0)) AS relations,
       -- Scans begun, of tables and of indexes: what stands for queries. A read by key is one, an update by key
       -- is one, and so is the check of a foreign key.
       sum(pg_stat_get_numscans(c.oid))::bigint AS scans,
       -- Of an index, "returned" would count its entries; the rows of a table are what is wanted.
       sum(pg_stat_get_tuples_fetched(c.oid)
           + CASE WHEN c.relkind IN ('r', 'm') THEN pg_stat_get_tuples_returned(c.oid) ELSE 0 END)::bigint
           AS rows_read,
       sum(CASE WHEN c.relkind IN ('r', 'm')
                THEN pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid)
                     + pg_stat_get_tuples_deleted(c.oid)
                ELSE 0 END)::bigint AS rows_written
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid
WHERE n.nspname = ANY (%(buckets)s)
  AND c.relkind IN ('r', 'm', 'i')
GROUP BY n.oid, n.nspname
