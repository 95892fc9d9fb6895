-- Every sequence of the buckets, those of identity columns too: where it stands, and where it ends for the columns it
-- feeds (an int4 column may be fed by an int8 sequence). Positions in its own direction, so that "ahead" is "greater".
-- One that was never used stands one step before its start (and one that is not ours: preflight refuses its bucket).
SELECT n.nspname, c.relname,
       sign(s.seqincrement)::bigint * coalesce(CASE WHEN has_sequence_privilege(c.oid, 'SELECT')
                                                    THEN pg_sequence_last_value(c.oid) END, s.seqstart - s.seqincrement),
       abs(s.seqincrement),
       CASE WHEN s.seqincrement > 0 THEN least(s.seqmax, fed.top) ELSE -greatest(s.seqmin, fed.bottom, -9223372036854775807) END,
       s.seqincrement < 0, s.seqcycle
  FROM pg_sequence s
  JOIN pg_class c ON c.oid = s.seqrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT min(CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END) AS top,
              max(CASE a.atttypid WHEN 'int2'::regtype THEN -32768 WHEN 'int4'::regtype THEN -2147483648 END) AS bottom
         FROM (SELECT d.refobjid, d.refobjsubid FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
               UNION ALL
               SELECT f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
                WHERE d.classid = 'pg_attrdef'::regclass
                  AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid) AS used (attrelid, attnum)
         JOIN pg_attribute a USING (attrelid, attnum)) AS fed
 WHERE n.nspname = ANY (%(buckets)s)
 ORDER BY 1, 2
