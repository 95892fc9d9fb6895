-- What our role lacks of what a repair needs: one row for each right.
SELECT right_needed
  FROM (VALUES ('pg_replication_origin_create(text)'),
               ('pg_replication_origin_drop(text)'),
               ('pg_replication_origin_session_setup(text)'),
               ('pg_replication_origin_session_reset()')) AS f (right_needed)
 WHERE NOT has_function_privilege('pg_catalog.' || right_needed, 'EXECUTE')
UNION ALL
SELECT 'SET session_replication_role'
 WHERE NOT has_parameter_privilege('session_replication_role', 'SET')
