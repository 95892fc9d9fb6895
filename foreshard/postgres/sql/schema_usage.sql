-- Who may use the schemas of buckets besides their owner and ourselves: (schema, role or NULL for PUBLIC, may pass it on).
SELECT n.nspname, g.rolname, bool_or(a.is_grantable)
  FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
  LEFT JOIN pg_roles g ON g.oid = a.grantee
 WHERE n.nspname = ANY (%(schemas)s) AND a.privilege_type = 'USAGE'
   AND a.grantee NOT IN (n.nspowner, current_user::regrole)
 GROUP BY 1, 2
 ORDER BY 1, 2
