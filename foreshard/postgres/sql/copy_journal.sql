-- On the target, in the migration's schema {migration}: what of the buckets has been copied and made. A row changes in
-- the transaction that does what it says, so that whoever goes on after a crash knows exactly where.

-- The snapshot on the source that all chunks are read in. One row; `attempt` grows when a copy begins anew.
CREATE TABLE IF NOT EXISTS {migration}.copying (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    attempt      int NOT NULL,
    snapshot     text NOT NULL,
    holder_pid   int NOT NULL,
    holder_start timestamptz NOT NULL,
    finished     boolean NOT NULL DEFAULT false
);

-- Blocks of one table of the source, of one partition of a partitioned one. Numbers are never used again.
CREATE TABLE IF NOT EXISTS {migration}.chunks (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket      text NOT NULL,
    "table"     text NOT NULL,
    leaf_schema text NOT NULL,
    leaf        text NOT NULL,
    first_block bigint NOT NULL,
    end_block   bigint,                         -- NULL: to the end
    bytes       bigint NOT NULL,                -- on disk, on the source
    rows        bigint                          -- NULL until it is copied
);

-- Indexes, constraints, triggers that have been made.
CREATE TABLE IF NOT EXISTS {migration}.made (
    label text PRIMARY KEY
);
