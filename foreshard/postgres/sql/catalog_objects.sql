-- What a bucket holds besides the columns, constraints, indexes and triggers of its tables, as (section, object,
-- definition), comparable between servers. Run with the search_path pinned, so that names print qualified on both.
-- Catalog columns that not every version has are read by way of JSON.
WITH named AS (SELECT oid FROM pg_namespace WHERE nspname = %(bucket)s),
relations AS (SELECT c.* FROM pg_class AS c JOIN named AS n ON n.oid = c.relnamespace),
tables AS (SELECT * FROM relations WHERE relkind IN ('r', 'p')),
types AS (
    SELECT t.* FROM pg_type AS t JOIN named AS n ON n.oid = t.typnamespace
      LEFT JOIN pg_class AS c ON c.oid = t.typrelid
     WHERE t.typtype IN ('d', 'e', 'r') OR t.typtype = 'c' AND c.relkind = 'c'
)
SELECT 'tables' AS section,
       c.relname::text AS object,
       concat_ws(' ',
           'KIND ' || c.relkind::text,
           'PERSISTENCE ' || c.relpersistence::text,
           'OWNER ' || quote_ident(pg_get_userbyid(c.relowner)),
           (SELECT 'USING ' || quote_ident(m.amname) FROM pg_am AS m WHERE m.oid = c.relam AND c.relkind = 'r'),
           'REPLICA IDENTITY ' || c.relreplident::text,
           CASE WHEN c.relrowsecurity THEN 'ROW SECURITY' END,
           CASE WHEN c.relforcerowsecurity THEN 'FORCED ROW SECURITY' END,
           CASE WHEN NOT c.relispartition
                THEN (SELECT 'INHERITS ' || string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                        FROM pg_inherits AS i WHERE i.inhrelid = c.oid) END) AS definition
  FROM tables AS c
UNION ALL
SELECT 'tables',
       format('%%s: policy %%s', c.relname, p.polname),
       concat_ws(' ',
           CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
           'FOR ' || p.polcmd::text,
           'TO ' || (SELECT string_agg(coalesce(quote_ident(r.rolname), 'PUBLIC'), ',' ORDER BY r.rolname)
                       FROM unnest(p.polroles) AS u (oid) LEFT JOIN pg_roles AS r ON r.oid = u.oid),
           'USING ' || pg_get_expr(p.polqual, p.polrelid),
           'CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid))
  FROM tables AS c JOIN pg_policy AS p ON p.polrelid = c.oid
UNION ALL
SELECT 'sequences',
       c.relname,
       concat_ws(' ',
           format('%%s START %%s INCREMENT %%s FROM %%s TO %%s CACHE %%s', format_type(s.seqtypid, NULL),
                  s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache),
           CASE WHEN s.seqcycle THEN 'CYCLE' END,
           'OWNER ' || quote_ident(pg_get_userbyid(c.relowner)),
           (SELECT format('OF %%s.%%s', t.relname, a.attname)
              FROM pg_depend AS d
              JOIN pg_class AS t ON t.oid = d.refobjid
              JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
               AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
  FROM relations AS c JOIN pg_sequence AS s ON s.seqrelid = c.oid
UNION ALL
SELECT 'views',
       c.relname,
       concat_ws(' ',
           'KIND ' || c.relkind::text,
           'OWNER ' || quote_ident(pg_get_userbyid(c.relowner)),
           'WITH ' || (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) AS o),
           'DEFAULTS ' || (SELECT string_agg(a.attname || ' ' || pg_get_expr(d.adbin, d.adrelid), ',' ORDER BY a.attnum)
                             FROM pg_attrdef AS d
                             JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                            WHERE d.adrelid = c.oid),
           (SELECT string_agg(pg_get_triggerdef(g.oid) || ' enabled ' || g.tgenabled::text, ' ' ORDER BY g.tgname)
              FROM pg_trigger AS g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal),
           pg_get_viewdef(c.oid))
  FROM relations AS c
 WHERE c.relkind IN ('v', 'm')
UNION ALL
SELECT 'types',
       t.typname,
       concat_ws(' ',
           'OWNER ' || quote_ident(pg_get_userbyid(t.typowner)),
           CASE t.typtype
               WHEN 'e' THEN 'ENUM ' || coalesce(
                   (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
                      FROM pg_enum AS e WHERE e.enumtypid = t.oid), '')
               WHEN 'c' THEN 'COMPOSITE ' || coalesce(
                   (SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                                                'COLLATE ' || nullif(a.attcollation, 0)::regcollation), ', '
                                      ORDER BY a.attnum)
                      FROM pg_attribute AS a
                     WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '')
               WHEN 'd' THEN concat_ws(' ',
                   'DOMAIN', format_type(t.typbasetype, t.typtypmod),
                   'COLLATE ' || nullif(t.typcollation, 0)::regcollation,
                   'DEFAULT ' || t.typdefault,
                   CASE WHEN t.typnotnull THEN 'NOT NULL' END,
                   -- Not the NOT NULL constraint that 17 and later list here.
                   (SELECT string_agg(format('CONSTRAINT %%I %%s', k.conname, pg_get_constraintdef(k.oid)), ' '
                                      ORDER BY k.conname)
                      FROM pg_constraint AS k WHERE k.contypid = t.oid AND k.contype = 'c'))
               WHEN 'r' THEN (SELECT concat_ws(' ',
                                         'RANGE', format_type(r.rngsubtype, NULL),
                                         'COLLATE ' || nullif(r.rngcollation, 0)::regcollation,
                                         'OPERATORS ' || o.opcname,
                                         'CANONICAL ' || nullif(r.rngcanonical, 0)::regproc,
                                         'DIFFERENCE ' || nullif(r.rngsubdiff, 0)::regproc,
                                         'MULTIRANGE ' || format_type(r.rngmultitypid, NULL))
                                FROM pg_range AS r JOIN pg_opclass AS o ON o.oid = r.rngsubopc
                               WHERE r.rngtypid = t.oid)
           END)
  FROM types AS t
UNION ALL
SELECT 'types',
       format('collation %%s', l.collname),
       concat_ws(' ',
           'OWNER ' || quote_ident(pg_get_userbyid(l.collowner)),
           'PROVIDER ' || l.collprovider::text, l.collcollate, l.collctype,
           coalesce(to_jsonb(l) ->> 'colllocale', to_jsonb(l) ->> 'colliculocale'),
           'RULES ' || (to_jsonb(l) ->> 'collicurules'),
           CASE WHEN NOT l.collisdeterministic THEN 'NOT DETERMINISTIC' END)
  FROM pg_collation AS l JOIN named AS n ON n.oid = l.collnamespace
UNION ALL
-- That these are there; what they do, the functions that they name do.
SELECT 'types', format('%%s %%s', i.type, i.identity), 'exists'
  FROM (SELECT 'pg_operator'::regclass AS class, o.oid FROM pg_operator AS o JOIN named AS n ON n.oid = o.oprnamespace
        UNION ALL SELECT 'pg_opclass'::regclass, o.oid FROM pg_opclass AS o JOIN named AS n ON n.oid = o.opcnamespace
        UNION ALL SELECT 'pg_opfamily'::regclass, o.oid FROM pg_opfamily AS o JOIN named AS n ON n.oid = o.opfnamespace
        UNION ALL SELECT 'pg_ts_config'::regclass, o.oid FROM pg_ts_config AS o JOIN named AS n ON n.oid = o.cfgnamespace
        UNION ALL SELECT 'pg_ts_dict'::regclass, o.oid FROM pg_ts_dict AS o JOIN named AS n ON n.oid = o.dictnamespace
       ) AS other
 CROSS JOIN LATERAL pg_identify_object(other.class, other.oid, 0) AS i
UNION ALL
SELECT 'routines',
       format('%%s(%%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
       concat_ws(' ',
           'OWNER ' || quote_ident(pg_get_userbyid(p.proowner)),
           CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END,
           (SELECT concat_ws(' ', 'AGGREGATE', g.aggkind::text, pg_get_function_result(p.oid), g.aggtransfn::text,
                             g.aggfinalfn::text, g.aggcombinefn::text, format_type(g.aggtranstype, NULL), g.agginitval,
                             'sorted by', g.aggsortop::regoperator::text, 'parallel', p.proparallel::text)
              FROM pg_aggregate AS g WHERE g.aggfnoid = p.oid))
  FROM pg_proc AS p JOIN named AS n ON n.oid = p.pronamespace
UNION ALL
-- What decides how much room or time something takes, and not what it does.
SELECT 'storage',
       c.relname,
       concat_ws(' ',
           'WITH ' || (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) AS o),
           'TOAST ' || (SELECT string_agg(o, ',' ORDER BY o) FROM pg_class AS x, unnest(x.reloptions) AS o
                         WHERE x.oid = c.reltoastrelid),
           (SELECT 'TABLESPACE ' || quote_ident(s.spcname) FROM pg_tablespace AS s WHERE s.oid = c.reltablespace),
           (SELECT 'CLUSTERED BY ' || i.indexrelid::regclass FROM pg_index AS i
             WHERE i.indrelid = c.oid AND i.indisclustered))
  FROM relations AS c
 WHERE c.relkind IN ('r', 'p', 'i', 'I')
UNION ALL
SELECT 'storage',
       format('%%s.%%s', c.relname, a.attname),
       concat_ws(' ',
           'STORAGE ' || a.attstorage::text,
           'COMPRESSION ' || nullif(a.attcompression::text, ''),
           -- None is -1 before 17, and NULL since.
           'STATISTICS ' || nullif(to_jsonb(a) ->> 'attstattarget', '-1'),
           'WITH ' || (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(a.attoptions) AS o))
  FROM relations AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relkind IN ('r', 'p', 'i', 'I')
UNION ALL
SELECT 'storage',
       format('statistics %%s', s.stxname),
       concat_ws(' ',
           'OWNER ' || quote_ident(pg_get_userbyid(s.stxowner)),
           pg_get_statisticsobjdef(s.oid),
           'STATISTICS ' || nullif(to_jsonb(s) ->> 'stxstattarget', '-1'))
  FROM pg_statistic_ext AS s JOIN named AS n ON n.oid = s.stxnamespace
 ORDER BY 1, 2
