{inside}
-- Objects outside the buckets that something in them depends on: (bucket, user, class, kind, identity, schema, extension).
-- What PostgreSQL itself brings is not in pg_depend. A foreign key or sequence that leads outside is refused anyhow.
, used AS (
    SELECT DISTINCT ON (ref.classid, ref.objid) ref.classid, ref.objid, i.bucket, d.classid AS by_class, d.objid AS by_object
      FROM pg_depend d
      JOIN inside i ON i.classid = d.classid AND i.objid = d.objid
      LEFT JOIN inside r ON r.classid = d.refclassid AND r.objid = d.refobjid
      LEFT JOIN pg_type a ON d.refclassid = 'pg_type'::regclass AND a.oid = d.refobjid AND a.typcategory = 'A'
      LEFT JOIN pg_class s ON d.refclassid = 'pg_class'::regclass AND s.oid = d.refobjid AND s.relkind IN ('S', 'i', 'I', 't')
     CROSS JOIN LATERAL (SELECT d.refclassid, coalesce(nullif(a.typelem, 0), d.refobjid)) AS ref (classid, objid)
     WHERE r.objid IS NULL AND s.oid IS NULL
       AND NOT (d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_class'::regclass)
       AND d.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass,
                            'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_collation'::regclass,
                            'pg_ts_config'::regclass, 'pg_ts_dict'::regclass, 'pg_language'::regclass, 'pg_am'::regclass)
     ORDER BY ref.classid, ref.objid, i.bucket, d.classid, d.objid
)
SELECT u.bucket, pg_describe_object(u.by_class, u.by_object, 0) AS by_what, u.classid::regclass::text AS class, o.type AS kind,
       o.identity, o.schema, e.extname
  FROM used u
 CROSS JOIN LATERAL pg_identify_object(u.classid, u.objid, 0) AS o
  LEFT JOIN pg_depend m ON m.classid = u.classid AND m.objid = u.objid AND m.deptype = 'e'
  LEFT JOIN pg_extension e ON e.oid = m.refobjid
 ORDER BY o.identity, u.classid
