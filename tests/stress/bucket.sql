-- One bucket of the stress application. Every key holds the distribution column, so canary steps are possible.
-- No sequence anywhere: sequences are not replicated, and ten thousand flips would want ten thousand head starts.
CREATE SCHEMA {bucket};

-- Counters: each write adds one and is told the value it left, so a lost or doubled one shows.
CREATE TABLE {bucket}.counter (
    key   bigint PRIMARY KEY,
    value bigint NOT NULL
);

-- Rows are only added. `row` is random and `op` not unique, so that a doubled write is stored and can be counted.
CREATE TABLE {bucket}.event (
    key bigint NOT NULL,
    row uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    op  uuid NOT NULL,
    PRIMARY KEY (key, row)
);
CREATE INDEX event_op ON {bucket}.event (key, op);

-- A parent is deleted with its children and inserted again, each time with the next version.
CREATE TABLE {bucket}.parent (
    key     bigint PRIMARY KEY,
    version bigint NOT NULL
);
CREATE TABLE {bucket}.child (
    key     bigint NOT NULL REFERENCES {bucket}.parent ON DELETE CASCADE,
    number  int NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (key, number)
);

-- A token wanders from key to key, and so from owner to owner.
CREATE TABLE {bucket}.token (
    key   bigint NOT NULL,
    id    bigint NOT NULL,
    moves bigint NOT NULL,
    PRIMARY KEY (key, id)
);

GRANT USAGE ON SCHEMA {bucket} TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {bucket} TO {application};
