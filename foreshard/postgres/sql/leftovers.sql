-- Everything of one migration that stands on this server: (kind, name). Migration 1 is not migration 12.
SELECT 'slot' AS kind, slot_name::text AS name FROM pg_replication_slots
 WHERE (slot_name = %(name)s OR starts_with(slot_name, %(name)s || '_')) AND database = current_database()
UNION ALL
SELECT 'publication', pubname FROM pg_publication WHERE (pubname = %(name)s OR starts_with(pubname, %(name)s || '_'))
UNION ALL
SELECT 'subscription', subname FROM pg_subscription
 WHERE (subname = %(name)s OR starts_with(subname, %(name)s || '_')) AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'schema', nspname FROM pg_namespace WHERE (nspname = %(name)s OR starts_with(nspname, %(name)s || '_'))
UNION ALL
SELECT 'trigger', format('%%s on %%s', t.tgname, t.tgrelid::regclass)
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE (n.nspname = %(name)s OR starts_with(n.nspname, %(name)s || '_'))
UNION ALL
SELECT 'origin', roname FROM pg_replication_origin WHERE starts_with(roname, %(name)s || '_')
ORDER BY 1, 2
