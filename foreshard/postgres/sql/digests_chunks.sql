-- Rows and digest of every chunk that has rows. A sum, not bit_xor: a row that is there twice must not cancel
-- itself out. Text, not hash_record: the binary forms of enums differ between servers.
-- COLLATE "C": the hash must not depend on a collation.
SELECT {chunk} AS chunk,
       count(*)::text AS rows,
       sum(hashtextextended(ROW({columns})::text COLLATE "C", 0))::text AS digest
  FROM {table} AS t
 GROUP BY 1
