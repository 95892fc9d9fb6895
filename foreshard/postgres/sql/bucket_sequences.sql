-- Sequences of one bucket that give a column its values: how far they are, and whether they count up.
-- One that was never used stands one step before its start. Those that cycle give values out twice by intention.
SELECT c.relname::text AS sequence,
       t.relname::text AS "table",
       a.attname::text AS "column",
       s.seqincrement > 0 AS up,
       coalesce(pg_sequence_last_value(c.oid), s.seqstart - s.seqincrement) AS last
  FROM pg_sequence AS s
  JOIN pg_class AS c ON c.oid = s.seqrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                     AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class AS t ON t.oid = d.refobjid
  JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
 WHERE n.nspname = %(bucket)s AND t.relnamespace = n.oid AND NOT s.seqcycle AND NOT t.relispartition
   AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
 ORDER BY 1
