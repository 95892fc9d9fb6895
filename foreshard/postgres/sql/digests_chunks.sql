-- Rows and digest of every chunk that has rows, of some rows or all. Count and sum are additive: what
-- several statements found of one chunk in different rows is added up.
-- A sum, not bit_xor: a row that is there twice must not cancel itself out. One hash of the whole row, not
-- hash_record_extended: that is linear in its columns (two rows that swapped a value would have the same sum), takes
-- 1.0 for 1.00, and the binary forms of enums differ between servers.
-- COLLATE "C": the hash must not depend on a collation.
SELECT {chunk} AS chunk,
       count(*) AS rows,
       sum(hashtextextended({text} COLLATE "C", 0))::text AS digest
  FROM {table} AS t{among}
 GROUP BY 1
