-- Keys, indexes and rights of one bucket, once its rows are there. Every key holds the distribution column.
ALTER TABLE {bucket}.aircraft ADD PRIMARY KEY (tailnum);
ALTER TABLE {bucket}.flights ADD PRIMARY KEY (tailnum, flight_id);
ALTER TABLE {bucket}.passenger_events ADD PRIMARY KEY (tailnum, event_id);

CREATE INDEX flights_route ON {bucket}.flights (origin, dest, sched_dep);
CREATE INDEX passenger_events_at ON {bucket}.passenger_events (tailnum, at);
CREATE INDEX passenger_events_op_id ON {bucket}.passenger_events (op_id);

ALTER TABLE {bucket}.flights ADD FOREIGN KEY (tailnum) REFERENCES {bucket}.aircraft;
ALTER TABLE {bucket}.passenger_events ADD FOREIGN KEY (tailnum, flight_id) REFERENCES {bucket}.flights;

GRANT USAGE ON SCHEMA {bucket} TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {bucket} TO {application};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {bucket} TO {application};

ANALYZE {bucket}.aircraft, {bucket}.flights, {bucket}.passenger_events;
