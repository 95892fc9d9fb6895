-- Rows of one metric, for `load_rows.read`: element 1 of amounts is the shard's. Gaps as NaN, so that every
-- element takes eight bytes of the binary format; no value is NaN, see the table's check.
COPY (
    SELECT shard, ts, live, array_replace(amounts[1:%(columns)s], NULL, 'NaN'::real)
    FROM {table}
    WHERE metric = %(metric)s AND ts >= %(since)s AND ts < %(until)s
      AND (%(shards)s::integer[] IS NULL OR shard = ANY (%(shards)s))
) TO STDOUT (FORMAT BINARY)
