-- One side of one migration. {migration}: its schema. Run in one transaction.

CREATE SCHEMA IF NOT EXISTS {migration};

-- opened_flip * 2048 + bound. A sequence because its value is not MVCC: an old snapshot sees the new bound.
CREATE SEQUENCE IF NOT EXISTS {migration}.bound MINVALUE 0 START 0;

-- Rows say "everything before me has been applied"; published both ways.
CREATE TABLE IF NOT EXISTS {migration}.marker (
    id         uuid PRIMARY KEY,
    sent_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    opens_flip bigint,  -- a close's marker: where it is applied, this flip opens
    bound      int
);
CREATE OR REPLACE TRIGGER marker_applied AFTER INSERT ON {migration}.marker
    FOR EACH ROW EXECUTE FUNCTION foreshard.marker_applied();
ALTER TABLE {migration}.marker ENABLE REPLICA TRIGGER marker_applied;

-- BEFORE TRUNCATE trigger on the tables of the buckets: row triggers do not see a TRUNCATE.
CREATE OR REPLACE FUNCTION {migration}.refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of %.% is refused while Foreshard moves it', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'FS003', HINT = 'Use DELETE, or wait until the migration has ended.';
END $$;
