-- Everything on this server that carries the prefix of one control plane: (migration, kind, name).
-- Slots and subscriptions are the server's, so only those of this database are ours to look at.
SELECT number::bigint, kind, name
  FROM (
    SELECT 'slot' AS kind, slot_name::text AS name, slot_name::text AS carrier FROM pg_replication_slots
     WHERE database = current_database()
    UNION ALL
    SELECT 'publication', pubname, pubname FROM pg_publication
    UNION ALL
    SELECT 'subscription', subname, subname FROM pg_subscription
     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT 'schema', nspname, nspname FROM pg_namespace
    UNION ALL
    SELECT 'origin', roname, roname FROM pg_replication_origin
    UNION ALL
    SELECT 'trigger', format('%%s on %%s', t.tgname, t.tgrelid::regclass), n.nspname
      FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
  ) AS things,
  substring(carrier FROM '^foreshard_' || %(plane)s || '_([0-9]{1,9})(?:_|$)') AS number
 WHERE number IS NOT NULL
