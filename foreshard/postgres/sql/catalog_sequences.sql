-- How far every sequence of the buckets has counted, in its own direction, so that "ahead" is always "greater".
-- One that was never used stands one step before its start. NULL: we may not read it.
SELECT n.nspname::text AS bucket,
       c.relname::text AS sequence,
       sign(s.seqincrement)::bigint
           * CASE WHEN has_sequence_privilege(c.oid, 'SELECT')
                  THEN coalesce(pg_sequence_last_value(c.oid), s.seqstart - s.seqincrement) END AS position
  FROM pg_sequence AS s
  JOIN pg_class AS c ON c.oid = s.seqrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(buckets)s)
 ORDER BY 1, 2
