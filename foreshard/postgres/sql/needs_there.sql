-- What there is in the named schemas, and without any: (class, identity, definition). The definition tells two apart.
SELECT o.class::regclass::text, i.identity, o.definition
  FROM (
    SELECT 'pg_type'::regclass::oid AS class, t.oid, n.nspname,
           CASE t.typtype
               WHEN 'e' THEN (SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid)
               WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) || coalesce(
                   (SELECT string_agg(' ' || pg_get_constraintdef(c.oid), '' ORDER BY c.conname) FROM pg_constraint c WHERE c.contypid = t.oid), '')
               WHEN 'c' THEN (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
                                FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
               ELSE '' END AS definition
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, n.nspname, md5(concat_ws(' ', p.prosrc, p.provolatile, pg_get_function_result(p.oid)))
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, n.nspname, ''
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'pg_operator'::regclass, o.oid, n.nspname, '' FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    UNION ALL
    SELECT 'pg_opclass'::regclass, o.oid, n.nspname, '' FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace
    UNION ALL
    SELECT 'pg_opfamily'::regclass, o.oid, n.nspname, '' FROM pg_opfamily o JOIN pg_namespace n ON n.oid = o.opfnamespace
    UNION ALL
    SELECT 'pg_collation'::regclass, c.oid, n.nspname,
           concat_ws(' ', c.collprovider, c.collcollate, pg_collation_actual_version(c.oid))
      FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    UNION ALL
    SELECT 'pg_ts_config'::regclass, c.oid, n.nspname, '' FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, d.oid, n.nspname, '' FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace
    UNION ALL
    SELECT 'pg_language'::regclass, oid, NULL, '' FROM pg_language
    UNION ALL
    SELECT 'pg_am'::regclass, oid, NULL, '' FROM pg_am
  ) AS o
 CROSS JOIN LATERAL pg_identify_object(o.class, o.oid, 0) AS i
 WHERE (o.nspname IS NULL OR o.nspname = ANY (%(schemas)s))
   AND o.class::regclass::text = ANY (%(classes)s) AND i.identity = ANY (%(identities)s)
