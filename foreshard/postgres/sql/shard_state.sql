-- What `foreshard doctor` wants to know of a shard beside server_facts.sql. One row.
SELECT -- Buckets that the routing map places here, and that are not.
       ARRAY(SELECT b FROM unnest(%(buckets)s::text[]) AS b
              WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = b) ORDER BY 1) AS missing_buckets,
       -- Roles that own a bucket's schema or a table in it, and whom we may not act for.
       ARRAY(SELECT DISTINCT pg_get_userbyid(owner)::text
               FROM (SELECT nspowner AS owner FROM pg_namespace WHERE nspname = ANY (%(buckets)s)
                     UNION
                     SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE n.nspname = ANY (%(buckets)s) AND c.relkind IN ('r', 'p')) AS owners
              WHERE NOT (pg_has_role(owner, 'USAGE') AND pg_has_role(owner, 'SET')) ORDER BY 1) AS foreign_owners,
       has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE') AS may_see_wal,
       -- Name and body of each of our functions.
       ARRAY(SELECT DISTINCT p.proname || ' ' || md5(btrim(p.prosrc))
               FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE n.nspname = 'foreshard' AND p.prosrc <> '' ORDER BY 1) AS functions,
       -- Slots of all databases: each keeps WAL on this server's disk.
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', slot_name, 'kind', slot_type, 'database', database, 'active', active,
                   'wal_status', wal_status,
                   'kept_bytes', CASE WHEN pg_is_in_recovery() THEN NULL
                                      ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END)
                 ORDER BY slot_name), '[]')
          FROM pg_replication_slots WHERE NOT temporary) AS slots
