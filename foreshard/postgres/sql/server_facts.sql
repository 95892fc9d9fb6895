-- What a server is and allows. One row; a setting that this version does not know is NULL.
SELECT current_setting('server_version_num')::int AS version,
       pg_is_in_recovery() AS in_recovery,
       current_setting('default_transaction_read_only')::bool AS read_only,
       pg_backend_pid() AS backend_pid,
       current_setting('search_path') = 'pg_catalog' AND current_setting('TimeZone') = 'UTC' AS keeps_settings,
       current_setting('wal_level') AS wal_level,
       current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int AS free_slots,
       current_setting('max_wal_senders')::int
         - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')::int AS free_senders,
       -- Before 18 there may be as many origins as slots.
       coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots'))::int
         - (SELECT count(*) FROM pg_replication_origin)::int AS free_origins,
       current_setting('max_logical_replication_workers')::int
         - (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication %%worker')::int AS free_appliers,
       current_setting('max_worker_processes')::int
         - (SELECT count(*) FROM pg_stat_activity
             WHERE backend_type NOT IN ('client backend', 'walsender', 'walreceiver', 'walwriter', 'checkpointer', 'startup',
                                        'background writer', 'archiver', 'autovacuum launcher', 'autovacuum worker',
                                        'io worker', 'walsummarizer', 'slotsync worker', 'parallel worker'))::int AS free_workers,
       current_setting('max_sync_workers_per_subscription')::int AS sync_workers,
       (SELECT nullif(setting, '-1')::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_bytes,
       (SELECT extract(epoch FROM (setting || ' ' || unit)::interval)::float8
          FROM pg_settings WHERE name = 'idle_replication_slot_timeout' AND setting <> '0') AS idle_timeout_s,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS may_replicate,
       pg_has_role('pg_create_subscription', 'MEMBER') AS may_subscribe,
       pg_has_role('pg_read_all_stats', 'USAGE') AND pg_has_role('pg_read_all_settings', 'USAGE') AS may_monitor,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       EXISTS (SELECT FROM pg_namespace WHERE nspname = 'foreshard' AND nspowner = current_user::regrole) AS owns_schema,
       (SELECT bool_and(has_parameter_privilege(name, 'SET')) FROM unnest(%(quiet)s::text[]) AS quiet (name)) AS may_keep_quiet,
       ARRAY(SELECT gid::text FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1) AS prepared,
       -- In any database: a new logical slot waits for each of them.
       ARRAY(SELECT format('prepared transaction %%s of database %%s', gid, database) FROM pg_prepared_xacts
              WHERE database <> current_database() AND prepared < clock_timestamp() - %(old_s)s * interval '1 s'
             UNION ALL
             SELECT format('transaction of process %%s in database %%s', pid, datname) FROM pg_stat_activity
              WHERE backend_xid IS NOT NULL AND xact_start < clock_timestamp() - %(old_s)s * interval '1 s'
                AND pid <> pg_backend_pid() AND backend_type <> 'logical replication tablesync worker'
              ORDER BY 1) AS old_transactions,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       (SELECT pid || ' ' || backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS session,
       current_database()::text AS database,
       pg_encoding_to_char(d.encoding)::text AS encoding,
       -- The column's name differs between versions.
       concat_ws(' ', d.datlocprovider, d.datcollate, d.datctype,
                 coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')) AS collation,
       coalesce(pg_database_collation_actual_version(d.oid), '') AS collation_version
  FROM pg_database d
 WHERE d.datname = current_database()
