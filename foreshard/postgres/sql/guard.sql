-- The guard of all tables whose distribution column has this name and type. SECURITY DEFINER: the application
-- may neither read the bound nor skip it. STABLE: see foreshard.require_owner. Replication's apply worker runs
-- with session_replication_role = replica and does not fire it.
CREATE OR REPLACE FUNCTION {migration}.{guard}() RETURNS trigger
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old_slot int;
    new_slot int;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        old_slot := ({old_hash} & 1023)::int;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        new_slot := ({new_hash} & 1023)::int;
    END IF;
    IF TG_OP = 'INSERT' THEN
        old_slot := new_slot;
    ELSIF TG_OP = 'DELETE' THEN
        new_slot := old_slot;
    END IF;
    PERFORM foreshard.require_owner(TG_TABLE_SCHEMA, old_slot, new_slot, true);
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$;
