-- The head of other queries: `inside`, everything that belongs to the buckets, as (bucket, classid, objid) of pg_depend.
WITH named AS (SELECT oid, nspname AS bucket FROM pg_namespace WHERE nspname = ANY (%(buckets)s)),
relations AS (SELECT c.oid, n.bucket FROM pg_class c JOIN named n ON n.oid = c.relnamespace),
inside (bucket, classid, objid) AS MATERIALIZED (
    SELECT bucket, 'pg_namespace'::regclass::oid, oid FROM named
    UNION ALL SELECT bucket, 'pg_class'::regclass, oid FROM relations
    UNION ALL SELECT bucket, 'pg_attrdef'::regclass, o.oid FROM pg_attrdef o JOIN relations r ON r.oid = o.adrelid
    UNION ALL SELECT bucket, 'pg_rewrite'::regclass, o.oid FROM pg_rewrite o JOIN relations r ON r.oid = o.ev_class
    UNION ALL SELECT bucket, 'pg_trigger'::regclass, o.oid FROM pg_trigger o JOIN relations r ON r.oid = o.tgrelid
    UNION ALL SELECT bucket, 'pg_policy'::regclass, o.oid FROM pg_policy o JOIN relations r ON r.oid = o.polrelid
    UNION ALL SELECT bucket, 'pg_type'::regclass, o.oid FROM pg_type o JOIN named n ON n.oid = o.typnamespace
    UNION ALL SELECT bucket, 'pg_proc'::regclass, o.oid FROM pg_proc o JOIN named n ON n.oid = o.pronamespace
    UNION ALL SELECT bucket, 'pg_constraint'::regclass, o.oid FROM pg_constraint o JOIN named n ON n.oid = o.connamespace
    UNION ALL SELECT bucket, 'pg_operator'::regclass, o.oid FROM pg_operator o JOIN named n ON n.oid = o.oprnamespace
    UNION ALL SELECT bucket, 'pg_opclass'::regclass, o.oid FROM pg_opclass o JOIN named n ON n.oid = o.opcnamespace
    UNION ALL SELECT bucket, 'pg_opfamily'::regclass, o.oid FROM pg_opfamily o JOIN named n ON n.oid = o.opfnamespace
    UNION ALL SELECT bucket, 'pg_collation'::regclass, o.oid FROM pg_collation o JOIN named n ON n.oid = o.collnamespace
    UNION ALL SELECT bucket, 'pg_ts_config'::regclass, o.oid FROM pg_ts_config o JOIN named n ON n.oid = o.cfgnamespace
    UNION ALL SELECT bucket, 'pg_ts_dict'::regclass, o.oid FROM pg_ts_dict o JOIN named n ON n.oid = o.dictnamespace
    UNION ALL SELECT bucket, 'pg_statistic_ext'::regclass, o.oid FROM pg_statistic_ext o JOIN named n ON n.oid = o.stxnamespace
    UNION ALL SELECT bucket, 'pg_default_acl'::regclass, o.oid FROM pg_default_acl o JOIN named n ON n.oid = o.defaclnamespace
)
