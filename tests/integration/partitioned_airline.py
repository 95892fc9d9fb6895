"""The airline with every table partitioned: by hash, and by range with a default partition and a level below it."""

from __future__ import annotations

import psycopg
from psycopg import sql

from foreshard.fleet.grants import APPLICATION, OWNER
from tests.integration.moving_fleet import MovingFleet

EARLY = 400
"""Events with a smaller number stand in ``early``, itself partitioned by hash; the others in the default partition."""

PARTITIONED = """
SET LOCAL ROLE {owner};
ALTER TABLE {bucket}.passenger_events DROP CONSTRAINT passenger_events_tailnum_flight_id_fkey;
ALTER TABLE {bucket}.flights DROP CONSTRAINT flights_tailnum_fkey;

CREATE TABLE {bucket}.partitioned (LIKE {bucket}.aircraft INCLUDING ALL) PARTITION BY HASH (tailnum);
CREATE TABLE {bucket}.aircraft_0 PARTITION OF {bucket}.partitioned FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE {bucket}.aircraft_1 PARTITION OF {bucket}.partitioned FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO {bucket}.partitioned SELECT * FROM {bucket}.aircraft;
DROP TABLE {bucket}.aircraft;
ALTER TABLE {bucket}.partitioned RENAME TO aircraft;

CREATE TABLE {bucket}.partitioned (LIKE {bucket}.flights INCLUDING ALL) PARTITION BY HASH (tailnum);
CREATE TABLE {bucket}.flights_0 PARTITION OF {bucket}.partitioned FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE {bucket}.flights_1 PARTITION OF {bucket}.partitioned FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO {bucket}.partitioned SELECT * FROM {bucket}.flights;
DROP TABLE {bucket}.flights;
ALTER TABLE {bucket}.partitioned RENAME TO flights;

CREATE TABLE {bucket}.partitioned (LIKE {bucket}.passenger_events INCLUDING ALL) PARTITION BY RANGE (event_id);
CREATE TABLE {bucket}.early PARTITION OF {bucket}.partitioned
    FOR VALUES FROM (MINVALUE) TO ({early}) PARTITION BY HASH (tailnum);
CREATE TABLE {bucket}.early_0 PARTITION OF {bucket}.early FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE {bucket}.early_1 PARTITION OF {bucket}.early FOR VALUES WITH (MODULUS 2, REMAINDER 1);
-- As it becomes with the years: another order of columns, and one that was dropped.
CREATE TABLE {bucket}.later (
    detail text NOT NULL, at timestamptz NOT NULL, gone int, op_id uuid, flight_id bigint NOT NULL, kind text NOT NULL,
    event_id bigint NOT NULL, passenger text NOT NULL, tailnum text NOT NULL, PRIMARY KEY (tailnum, event_id));
ALTER TABLE {bucket}.later DROP COLUMN gone;
ALTER TABLE {bucket}.partitioned ATTACH PARTITION {bucket}.later DEFAULT;
INSERT INTO {bucket}.partitioned SELECT * FROM {bucket}.passenger_events;
SELECT setval(pg_get_serial_sequence('{bucket}.partitioned', 'event_id'), max(event_id)) FROM {bucket}.partitioned;
DROP TABLE {bucket}.passenger_events;
ALTER TABLE {bucket}.partitioned RENAME TO passenger_events;

ALTER TABLE {bucket}.flights ADD FOREIGN KEY (tailnum) REFERENCES {bucket}.aircraft;
ALTER TABLE {bucket}.passenger_events ADD FOREIGN KEY (tailnum, flight_id) REFERENCES {bucket}.flights;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {bucket} TO {application};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {bucket} TO {application};
"""


class PartitionedAirline(MovingFleet):
    """The fleet with one migration of buckets whose tables are partitioned."""

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        super().fill(conn)
        for bucket in self.buckets:
            with conn.transaction():
                conn.execute(
                    sql.SQL(PARTITIONED).format(
                        bucket=sql.Identifier(bucket),
                        owner=sql.Identifier(OWNER),
                        application=sql.Identifier(APPLICATION),
                        early=sql.Literal(EARLY),
                    )
                )
