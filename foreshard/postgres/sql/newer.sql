-- What the buckets use that servers before a version do not know: (subject, since, why, remedy).
-- Catalog columns that an older source lacks are read by way of JSON.
SELECT format('%%s.%%s.%%s', n.nspname, c.relname, a.attname), 18, 'is a virtual generated column',
       'Make it a stored one.'
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attgenerated = 'v' AND NOT a.attisdropped AND n.nspname = ANY (%(buckets)s)
UNION ALL
SELECT format('%%s on %%s', k.conname, k.conrelid::regclass), 18,
       CASE WHEN to_jsonb(k) ->> 'conperiod' = 'true' THEN 'is a temporal key (WITHOUT OVERLAPS, PERIOD)'
            ELSE 'is a constraint that is NOT ENFORCED' END,
       'Drop it, or move the bucket to a newer server.'
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
 WHERE n.nspname = ANY (%(buckets)s)
   AND (to_jsonb(k) ->> 'conperiod' = 'true' OR to_jsonb(k) ->> 'conenforced' = 'false')
UNION ALL
-- With all other rights it is dumped as ALL, which every version takes.
SELECT format('%%s.%%s', n.nspname, c.relname), 17, format('grants MAINTAIN to %%s', acl.grantee::regrole),
       'Revoke it, and grant it again after the move.'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT x.grantee FROM aclexplode(c.relacl) AS x GROUP BY x.grantee
                     HAVING bool_or(x.privilege_type = 'MAINTAIN') AND count(*) < 8) AS acl
 WHERE n.nspname = ANY (%(buckets)s) AND acl.grantee <> 0
 ORDER BY 1
