-- Tables of the buckets; partitions are counted into their root, unless that stands in another schema:
-- (bucket, table, rows, bytes, may read, primary key, columns as JSON, root elsewhere, partitions).
WITH tables AS (
    SELECT c.oid, n.oid AS schema, n.nspname, c.relname, c.relkind,
           -- What is no partition has no root.
           CASE WHEN c.relispartition THEN coalesce(pg_partition_root(c.oid)::oid, c.oid) ELSE c.oid END AS root,
           -- -1: never analysed; then what the statistics counted since the server's start.
           CASE WHEN c.relkind = 'p' THEN 0 WHEN c.reltuples < 0 THEN pg_stat_get_live_tuples(c.oid) ELSE c.reltuples END AS live,
           pg_total_relation_size(c.oid) AS bytes
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')
), counted AS (
    SELECT t.*, r.relnamespace AS root_schema, r.oid::regclass::text AS root_name
      FROM tables t JOIN pg_class r ON r.oid = t.root
), whole AS (
    SELECT root, schema, sum(live)::bigint AS live, sum(bytes)::bigint AS bytes,
           array_agg(relname::text) FILTER (WHERE oid <> root) AS partitions
      FROM counted WHERE root_schema = schema GROUP BY root, schema
    UNION ALL
    SELECT oid, schema, live::bigint, bytes, NULL FROM counted WHERE root_schema <> schema
)
SELECT t.nspname, t.relname, w.live, w.bytes, has_table_privilege(t.oid, 'SELECT'),
       ARRAY(SELECT a.attname::text FROM pg_index i
               CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
               JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
              WHERE i.indrelid = t.oid AND i.indisprimary ORDER BY k.place),
       (SELECT json_agg(json_build_array(a.attname, b.typname, a.attnotnull, a.attgenerated <> '') ORDER BY a.attnum)::text
          FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
          JOIN pg_type b ON b.oid = CASE WHEN y.typtype = 'd' THEN y.typbasetype ELSE y.oid END
         WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped),
       CASE WHEN t.root_schema <> t.schema THEN t.root_name END,
       coalesce(w.partitions, '{}')
  FROM whole w JOIN counted t ON t.oid = w.root AND t.schema = w.schema
 ORDER BY t.nspname COLLATE "C", t.relname COLLATE "C"
