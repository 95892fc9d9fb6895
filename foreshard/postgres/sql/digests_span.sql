-- Lowest and highest value of the leading key column: one look at each end of its index.
SELECT min({leading})::int8, max({leading})::int8 FROM {table} AS t
