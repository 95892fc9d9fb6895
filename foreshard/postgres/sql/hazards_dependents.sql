{inside}
-- What stands outside a bucket and depends on what is in it: (bucket, table, subject, why, remedy, effect).
-- Dropping the source's copy, in the end, would drop it too, or take its constraint away.
SELECT i.bucket, NULL AS table_name,
       CASE d.classid WHEN 'pg_rewrite'::regclass THEN pg_describe_object('pg_class'::regclass, w.ev_class, 0)
                      ELSE pg_describe_object(d.classid, d.objid, 0) END AS subject,
       format('depends on %%s and would be dropped with the source''s copy',
              min(pg_describe_object(d.refclassid, d.refobjid, 0))) AS why,
       'Drop it, or move it into the bucket.' AS remedy, 'blocks' AS effect
  FROM pg_depend d
  JOIN inside i ON i.classid = d.refclassid AND i.objid = d.refobjid
  LEFT JOIN inside o ON o.classid = d.classid AND o.objid = d.objid AND o.bucket = i.bucket
  LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
 WHERE o.objid IS NULL AND d.refclassid <> 'pg_namespace'::regclass
   AND d.classid IN ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass,
                     'pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_attrdef'::regclass, 'pg_policy'::regclass)
   -- A TOAST table is its table's own; internal triggers belong to a foreign key, which is named itself.
   AND NOT (d.classid = 'pg_class'::regclass
            AND EXISTS (SELECT FROM pg_class t WHERE t.oid = d.objid AND t.relkind = 't'))
   AND NOT (d.classid = 'pg_trigger'::regclass
            AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objid AND g.tgisinternal))
 GROUP BY i.bucket, d.classid, d.objid, w.ev_class
 ORDER BY 1, 3
