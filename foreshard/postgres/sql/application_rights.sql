-- What the application's role lacks: (role, described tables it cannot read and write, one of them, may use schema foreshard).
WITH lacking AS (
    SELECT format('%%I.%%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY (%(buckets)s) AND c.relname = ANY (%(tables)s) AND c.relkind IN ('r', 'p')
       AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
                AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
                AND has_table_privilege(c.oid, 'DELETE'))
)
SELECT current_user::text, (SELECT count(*) FROM lacking), (SELECT min(name) FROM lacking),
       (SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'foreshard')
