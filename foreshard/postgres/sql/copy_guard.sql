-- Stands in for the row guard while a side is being copied to: nobody but the copy itself writes, and of the application
-- nobody may. A statement trigger, since one for each row would make COPY insert row by row.
-- Slot 0 is the first that a target ever owns; while this trigger is there it owns none, so every write is refused.
CREATE OR REPLACE FUNCTION {migration}.refuse_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF session_user = current_user AND current_setting('foreshard.copies', true) IS NOT DISTINCT FROM {schema_name} THEN
        RETURN NULL;
    END IF;
    PERFORM foreshard.require_owner(TG_TABLE_SCHEMA, 0, 0, true);
    RAISE EXCEPTION '%.% is being copied', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'FS003';
END $$;
