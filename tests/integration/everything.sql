-- A bucket with everything that PostgreSQL lets its owner define, and some rows. Run as a superuser.
SET ROLE airline;
CREATE SCHEMA everything;
COMMENT ON SCHEMA everything IS 'a bucket with everything';
ALTER DEFAULT PRIVILEGES IN SCHEMA everything GRANT SELECT ON TABLES TO airline_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA everything GRANT USAGE ON SEQUENCES TO airline_app;
GRANT USAGE ON SCHEMA everything TO airline_app;

CREATE TYPE everything.mood AS ENUM ('sad', 'it''s ok', 'happy');
COMMENT ON TYPE everything.mood IS 'how it goes';
ALTER TYPE everything.mood ADD VALUE 'so-so' BEFORE 'happy';
CREATE DOMAIN everything.email AS text COLLATE "C" DEFAULT 'nobody@example' NOT NULL
    CONSTRAINT has_at CHECK (VALUE ~ '@');
COMMENT ON CONSTRAINT has_at ON DOMAIN everything.email IS 'not much of a check';
CREATE TYPE everything.address AS (street text, mood everything.mood, at timestamptz);
COMMENT ON COLUMN everything.address.street IS 'and number';
CREATE TYPE everything.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION everything.plain (provider = libc, locale = 'C');
CREATE SEQUENCE everything.tickets AS int INCREMENT BY -5 MINVALUE -2000000000 START -10 CACHE 7;
COMMENT ON SEQUENCE everything.tickets IS 'downwards';
CREATE FUNCTION everything.next_code() RETURNS text LANGUAGE sql
    AS $$SELECT 'code ' || nextval('everything.tickets')$$;
CREATE FUNCTION everything.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
COMMENT ON FUNCTION everything.note IS 'does nothing';
CREATE FUNCTION everything.folded(t text) RETURNS text IMMUTABLE PARALLEL SAFE RETURN lower(t);
REVOKE ALL ON FUNCTION everything.folded FROM PUBLIC;
GRANT EXECUTE ON FUNCTION everything.folded TO airline_app;
CREATE PROCEDURE everything.nothing() LANGUAGE plpgsql AS $$BEGIN NULL; END$$;
CREATE AGGREGATE everything.longest (text) (sfunc = textcat, stype = text);

CREATE TABLE everything.account (
    tenant   text COLLATE everything.plain PRIMARY KEY,
    number   bigint GENERATED ALWAYS AS IDENTITY (START WITH 100 INCREMENT BY 10),
    old      serial,
    email    everything.email,
    mood     everything.mood DEFAULT 'so-so',
    moods    everything.mood[] NOT NULL DEFAULT '{sad,happy}',
    lives    everything.address,
    lived    everything.address[],
    emails   everything.email[],
    about    jsonb NOT NULL DEFAULT '{"a": [1, 2]}',
    raw      json,
    page     xml,
    valid    tstzrange,
    within   everything.span,
    nights   nummultirange,
    secret   bytea STORAGE EXTERNAL,
    text     text STORAGE MAIN COMPRESSION pglz,
    code     text NOT NULL DEFAULT everything.next_code(),
    made     timestamptz NOT NULL DEFAULT now(),
    place    point,
    price    money,
    address  inet,
    words    tsvector,
    refers   regclass,
    upper    text GENERATED ALWAYS AS (upper(tenant)) STORED,
    CONSTRAINT not_empty CHECK (tenant <> '') NO INHERIT
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = false);
COMMENT ON TABLE everything.account IS 'who pays';
COMMENT ON COLUMN everything.account.old IS 'it''s old, and 50 % done';
COMMENT ON CONSTRAINT not_empty ON everything.account IS 'checked';
COMMENT ON CONSTRAINT account_pkey ON everything.account IS 'the key';
COMMENT ON INDEX everything.account_pkey IS 'its index';
ALTER TABLE everything.account ALTER tenant SET STATISTICS 500, ALTER number SET (n_distinct = -1);
ALTER TABLE everything.account ADD CONSTRAINT late CHECK (length(tenant) < 100) NOT VALID;
ALTER TABLE everything.account ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON everything.account FOR UPDATE TO airline_app
    USING (tenant = current_setting('app.tenant', true)) WITH CHECK (true);
CREATE POLICY all_of_it ON everything.account AS PERMISSIVE USING (true);
COMMENT ON POLICY own ON everything.account IS 'one''s own';
CREATE UNIQUE INDEX account_email ON everything.account (tenant, email) NULLS NOT DISTINCT;
CREATE INDEX account_folded ON everything.account (everything.folded(tenant) text_pattern_ops DESC NULLS LAST)
    INCLUDE (mood) WITH (fillfactor = 80) WHERE mood <> 'sad';
ALTER INDEX everything.account_folded ALTER COLUMN 1 SET STATISTICS 77;
COMMENT ON INDEX everything.account_folded IS 'partial, expression, include';
CREATE INDEX account_about ON everything.account USING gin (about jsonb_path_ops);
CREATE INDEX account_valid ON everything.account USING gist (valid);
CREATE INDEX account_made ON everything.account USING brin (made) WITH (pages_per_range = 8);
CREATE STATISTICS everything.account_facts (ndistinct, dependencies, mcv) ON tenant, mood FROM everything.account;
ALTER STATISTICS everything.account_facts SET STATISTICS 33;
COMMENT ON STATISTICS everything.account_facts IS 'facts';
ALTER TABLE everything.account CLUSTER ON account_email;
GRANT SELECT (tenant, mood), UPDATE (mood) ON everything.account TO airline_app;
GRANT INSERT, DELETE ON everything.account TO airline_app WITH GRANT OPTION;

CREATE TABLE everything.entry (
    tenant text NOT NULL, id int GENERATED BY DEFAULT AS IDENTITY, amount numeric(12, 2), parent int,
    UNIQUE NULLS NOT DISTINCT (tenant, amount, id) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (tenant, id) INCLUDE (amount));
ALTER TABLE everything.entry ADD CONSTRAINT whose FOREIGN KEY (tenant) REFERENCES everything.account
    ON DELETE CASCADE DEFERRABLE;
COMMENT ON CONSTRAINT whose ON everything.entry IS 'whose it is';
ALTER TABLE everything.entry ADD CONSTRAINT above FOREIGN KEY (tenant, parent) REFERENCES everything.entry NOT VALID;
CREATE TRIGGER noted BEFORE UPDATE OF amount ON everything.entry FOR EACH ROW
    WHEN (OLD.amount IS DISTINCT FROM NEW.amount) EXECUTE FUNCTION everything.note('an argument');
COMMENT ON TRIGGER noted ON everything.entry IS 'a trigger';
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON everything.entry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION everything.note();
CREATE TRIGGER off AFTER DELETE ON everything.entry FOR EACH ROW EXECUTE FUNCTION everything.note();
ALTER TABLE everything.entry DISABLE TRIGGER off;

CREATE TABLE everything.booking (
    tenant text NOT NULL, room int4range NOT NULL, during tstzrange NOT NULL, PRIMARY KEY (tenant, room, during),
    CONSTRAINT no_overlap EXCLUDE USING gist (room WITH &&, during WITH &&) WHERE (NOT isempty(room)));
COMMENT ON CONSTRAINT no_overlap ON everything.booking IS 'one guest a room';

CREATE TABLE everything.measure (
    tenant text NOT NULL, at date NOT NULL, value float8 DEFAULT 'NaN', serial bigserial,
    PRIMARY KEY (tenant, at, serial)) PARTITION BY RANGE (at);
CREATE TABLE everything.measure_old PARTITION OF everything.measure FOR VALUES FROM (MINVALUE) TO ('2025-01-01')
    PARTITION BY LIST (tenant);
CREATE TABLE everything.measure_old_a PARTITION OF everything.measure_old FOR VALUES IN ('t1', 't2');
CREATE TABLE everything.measure_old_rest PARTITION OF everything.measure_old DEFAULT WITH (fillfactor = 60);
CREATE TABLE everything.measure_new (serial bigint NOT NULL, value float8, gone int, at date NOT NULL,
    tenant text NOT NULL, PRIMARY KEY (tenant, at, serial));
ALTER TABLE everything.measure_new DROP COLUMN gone;
ALTER TABLE everything.measure ATTACH PARTITION everything.measure_new FOR VALUES FROM ('2025-01-01') TO (MAXVALUE);
CREATE INDEX measure_value ON everything.measure (value, tenant);
COMMENT ON INDEX everything.measure_value IS 'of all partitions';
CREATE INDEX measure_new_only ON everything.measure_new (value) WHERE value > 0;
CREATE UNIQUE INDEX measure_unique ON everything.measure (tenant, at, value, serial);
COMMENT ON TABLE everything.measure_old_a IS 'a partition';
CREATE TRIGGER each_measure AFTER INSERT ON everything.measure FOR EACH ROW EXECUTE FUNCTION everything.note();
ALTER TABLE everything.measure_new DISABLE TRIGGER each_measure;
ALTER TABLE everything.measure ADD FOREIGN KEY (tenant) REFERENCES everything.account;

CREATE TABLE everything.visit (tenant text NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, at date, serial bigint,
    PRIMARY KEY (tenant, id)) PARTITION BY HASH (tenant);
CREATE TABLE everything.visit_0 PARTITION OF everything.visit FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE everything.visit_1 PARTITION OF everything.visit FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE everything.visit ADD FOREIGN KEY (tenant, at, serial) REFERENCES everything.measure;

CREATE TABLE everything.odd (tenant text NOT NULL, a int, gone text, id int, PRIMARY KEY (tenant, id));
ALTER TABLE everything.odd DROP COLUMN gone, ADD COLUMN added int DEFAULT 7;
CREATE RULE "_rule" AS ON INSERT TO everything.odd DO ALSO NOTHING;
DROP RULE "_rule" ON everything.odd;

CREATE VIEW everything.happy WITH (security_barrier) AS
    SELECT a.*, count(e.id) AS entries FROM everything.account a LEFT JOIN everything.entry e USING (tenant)
     WHERE a.mood = 'happy' GROUP BY a.tenant;
COMMENT ON VIEW everything.happy IS 'needs the primary key';
CREATE VIEW everything.names AS SELECT tenant, mood FROM everything.account WITH CHECK OPTION;
ALTER VIEW everything.names ALTER mood SET DEFAULT 'sad';
CREATE TRIGGER instead INSTEAD OF INSERT ON everything.happy FOR EACH ROW EXECUTE FUNCTION everything.note();
GRANT SELECT ON everything.happy TO PUBLIC;

INSERT INTO everything.account (tenant, email, lives, lived, emails, raw, page, valid, within, nights, secret, text,
                                place, price, address, words, refers)
SELECT 't' || n, 't' || n || '@example', ROW('street ' || n, 'sad', timestamptz '2025-01-01 12:00+02')::everything.address,
       ARRAY[ROW('a "quoted" street', 'happy', NULL)::everything.address, NULL], ARRAY['a@b', 'c@d'],
       '{"b":  1, "b": 2}', xmlparse(content '<a b="c">&amp;</a>'), '[2025-01-01, 2025-02-01)',
       everything.span(n, n + 0.1), '{[1,2],[5,7)}', decode(repeat('00ff5c', n), 'hex'), repeat('toast ', n * 300),
       point(n, 1 / 3.0), n::money, '::1', to_tsvector('simple', 'word number ' || n), 'everything.account'
  FROM generate_series(1, 30) n;
INSERT INTO everything.entry (tenant, amount) SELECT 't' || 1 + mod(n, 30), n / 3.0 FROM generate_series(1, 100) n;
INSERT INTO everything.booking
SELECT 't' || n, int4range(n, n + 1), '[2025-01-01, 2025-01-02)' FROM generate_series(1, 30) n;
INSERT INTO everything.measure (tenant, at, value)
SELECT 't' || 1 + mod(n, 30), date '2024-11-01' + n, 1 / 3.0 * n FROM generate_series(1, 200) n;
INSERT INTO everything.visit (tenant, at, serial) SELECT tenant, at, serial FROM everything.measure;
INSERT INTO everything.odd (tenant, a, id) SELECT 't' || n, n, n FROM generate_series(1, 30) n;
RESET ROLE;
