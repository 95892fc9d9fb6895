-- Everything of one migration that stands on this server: (kind, name).
SELECT 'slot' AS kind, slot_name::text AS name FROM pg_replication_slots
 WHERE starts_with(slot_name, %(prefix)s) AND database = current_database()
UNION ALL
SELECT 'publication', pubname FROM pg_publication WHERE starts_with(pubname, %(prefix)s)
UNION ALL
SELECT 'subscription', subname FROM pg_subscription
 WHERE starts_with(subname, %(prefix)s) AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'schema', nspname FROM pg_namespace WHERE starts_with(nspname, %(prefix)s)
UNION ALL
SELECT 'trigger', format('%%s on %%s', t.tgname, t.tgrelid::regclass)
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE starts_with(n.nspname, %(prefix)s)
UNION ALL
SELECT 'row in foreshard.sides', migration FROM foreshard.sides WHERE starts_with(migration, %(prefix)s)
ORDER BY 1, 2
