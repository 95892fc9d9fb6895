"""Hazards that a bucket holds itself: its tables, columns, sequences and triggers."""

from __future__ import annotations

from foreshard.fleet.grants import APPLICATION, OWNER
from tests.integration.hazard_case import WARNS, Case

IN_BUCKETS: dict[str, Case] = {
    # -- tables ------------------------------------------------------------------------------------------
    "a table without primary key": Case(
        "{b}.entry: has no primary key", source=("ALTER TABLE {b}.entry DROP CONSTRAINT entry_pkey",)
    ),
    "a deferrable primary key": Case(
        "{b}.entry: has no primary key to replicate by",
        source=("ALTER TABLE {b}.entry DROP CONSTRAINT entry_pkey, ADD PRIMARY KEY (owner, id) DEFERRABLE",),
    ),
    "an unlogged table": Case("{b}.entry: is unlogged", source=("ALTER TABLE {b}.entry SET UNLOGGED",)),
    "REPLICA IDENTITY USING INDEX": Case(
        "{b}.entry: has REPLICA IDENTITY USING INDEX",
        source=(
            "CREATE UNIQUE INDEX other ON {b}.entry (id, owner)",
            "ALTER TABLE {b}.entry REPLICA IDENTITY USING INDEX other",
        ),
    ),
    "REPLICA IDENTITY NOTHING": Case(
        "{b}.entry: has REPLICA IDENTITY NOTHING", source=("ALTER TABLE {b}.entry REPLICA IDENTITY NOTHING",)
    ),
    "forced row level security": Case(
        "{b}.account: has FORCE ROW LEVEL SECURITY",
        source=("ALTER TABLE {b}.account FORCE ROW LEVEL SECURITY",),
    ),
    "row level security": Case(
        f"{{b}}.account: has row level security, with 1 policies for {APPLICATION}",
        WARNS,
        source=(
            "ALTER TABLE {b}.account ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY own ON {{b}}.account TO {APPLICATION} USING (true)",
        ),
    ),
    "an inherited table": Case(
        "{b}.heirs: inherits", source=("CREATE TABLE {b}.heirs (PRIMARY KEY (owner)) INHERITS ({b}.account)",)
    ),
    "a partition in another schema": Case(
        "public.far: is a partition of {b}.entry, in another schema",
        source=(
            "DROP TABLE {b}.entry",
            "CREATE TABLE {b}.entry (owner text, id int, PRIMARY KEY (owner, id)) PARTITION BY HASH (owner)",
            "CREATE TABLE public.far PARTITION OF {b}.entry FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        ),
    ),
    "a partition of another owner": Case(
        "{b}.near: belongs to another role than {b}.entry, whose partition it is",
        source=(
            "DROP TABLE {b}.entry",
            f"SET ROLE {OWNER}",
            "CREATE TABLE {b}.entry (owner text, id int, PRIMARY KEY (owner, id)) PARTITION BY HASH (owner)",
            "RESET ROLE",
            "CREATE TABLE {b}.near PARTITION OF {b}.entry FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        ),
    ),
    "a partition in the fleet's description": Case(
        "{b}.entry: is described as a table, and is a partition of",
        source=(
            "DROP TABLE {b}.entry",
            "CREATE TABLE {b}.whole (owner text, id int, PRIMARY KEY (owner, id)) PARTITION BY HASH (owner)",
            "CREATE TABLE {b}.entry PARTITION OF {b}.whole FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        ),
    ),
    "a rule": Case(
        "{b}.entry: rule twice: rewrites statements",
        source=("CREATE RULE twice AS ON DELETE TO {b}.entry DO ALSO NOTHING",),
    ),
    "a table of somebody else": Case(
        "{b}.entry: belongs to postgres", source=("ALTER TABLE {b}.entry OWNER TO postgres",)
    ),
    "a materialised view": Case(
        "{b}.sums: is a materialised view", source=("CREATE MATERIALIZED VIEW {b}.sums AS SELECT 1 AS one",)
    ),
    "a table outside the description": Case(
        "{b}.stray: is not in the fleet's description",
        source=("CREATE TABLE {b}.stray (id int PRIMARY KEY)",),
    ),
    "a described table that is missing": Case(
        "{b}.entry: is not on source", source=("DROP TABLE {b}.entry",)
    ),
    "a table that is otherwise than in other buckets": Case(
        "{b}.entry: has other columns or constraints than",
        WARNS,
        source=("ALTER TABLE {b}.entry ADD COLUMN extra text",),
    ),
    # -- columns and keys --------------------------------------------------------------------------------
    "a nullable key": Case(
        "{b}.entry.owner: is not a plain NOT NULL column",
        source=(
            "ALTER TABLE {b}.entry DROP CONSTRAINT entry_pkey, ALTER owner DROP NOT NULL, ADD PRIMARY KEY (id)",
        ),
    ),
    "a generated key": Case(
        "{b}.entry.owner: is not a plain NOT NULL column",
        source=(
            "DROP TABLE {b}.entry",
            "CREATE TABLE {b}.entry"
            " (id int, owner text GENERATED ALWAYS AS ('a') STORED NOT NULL, PRIMARY KEY (owner, id))",
        ),
    ),
    "a key of another type than the fleet's": Case(
        "{b}.entry.owner: is a key of type character, not text",
        source=("ALTER TABLE {b}.entry ALTER owner TYPE char(20)",),
    ),
    "a key whose equal values hash apart": Case(
        "{b}.entry.owner: has a collation that is not deterministic",
        source=(  # by hand, since not every build has ICU, and no other provider has such collations
            'CREATE COLLATION {b}.whatever FROM "C"',
            "ALTER TABLE {b}.entry ALTER owner TYPE text COLLATE {b}.whatever",
            "UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'whatever'",
        ),
    ),
    "a large object's column": Case(
        "{b}.account.picture: may name large objects",
        source=("CREATE EXTENSION lo SCHEMA public", "ALTER TABLE {b}.account ADD picture public.lo"),
        target=("CREATE EXTENSION lo SCHEMA public",),
    ),
    "an oid column where no large object is": Case(
        "{b}.account.number: may name large objects",
        WARNS,
        source=("ALTER TABLE {b}.account ADD number oid",),
    ),
    "a column that names objects of the database": Case(
        "{b}.account.place: names objects of the database (regclass)",
        WARNS,
        source=("ALTER TABLE {b}.account ADD place regclass",),
    ),
    # -- sequences ---------------------------------------------------------------------------------------
    "a sequence outside the bucket": Case(
        "{b}.account.balance: takes values from public.numbers, a sequence outside its bucket",
        source=(
            "CREATE SEQUENCE public.numbers",
            "ALTER TABLE {b}.account ALTER balance SET DEFAULT nextval('public.numbers')",
        ),
    ),
    "a sequence at its end": Case(
        "sequence {b}.few: has 647 values left",
        source=(
            f"SET ROLE {OWNER}",
            "CREATE SEQUENCE {b}.few AS int",
            "SELECT setval('{b}.few', 2147483000)",
            "RESET ROLE",
        ),
    ),
    "a wide sequence that feeds a narrow column": Case(
        "sequence {b}.wide: has 647 values left",
        source=(
            f"SET ROLE {OWNER}",
            "CREATE SEQUENCE {b}.wide",
            "ALTER TABLE {b}.account ALTER balance SET DEFAULT nextval('{b}.wide')",
            "SELECT setval('{b}.wide', 2147483000)",
            "RESET ROLE",
        ),
    ),
    "a descending sequence at its end": Case(
        "sequence {b}.down: has 10 values left",
        source=(
            f"SET ROLE {OWNER}",
            "CREATE SEQUENCE {b}.down INCREMENT -10 MINVALUE -10000 START -1",
            "SELECT setval('{b}.down', -9900)",
            "RESET ROLE",
        ),
    ),
    # -- triggers ----------------------------------------------------------------------------------------
    "a trigger that would run twice": Case(
        "{b}.entry: trigger twice: is ENABLE ALWAYS or REPLICA",
        source=(
            "CREATE TRIGGER twice BEFORE UPDATE ON {b}.entry FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "ALTER TABLE {b}.entry ENABLE ALWAYS TRIGGER twice",
        ),
    ),
    "a trigger that fires after the guard": Case(
        "{b}.entry: trigger zzz: fires after the guard",
        source=(
            "CREATE TRIGGER zzz BEFORE UPDATE ON {b}.entry FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ),
    ),
    "a trigger that may write anywhere": Case(
        "{b}.entry: trigger tell: what {b}.tell() writes cannot be known",
        WARNS,
        source=(
            "CREATE FUNCTION {b}.tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
            "CREATE TRIGGER tell AFTER INSERT ON {b}.entry FOR EACH ROW EXECUTE FUNCTION {b}.tell()",
        ),
    ),
}

OBSTACLES: dict[str, Case] = {
    "a unique index without the distribution column": Case(
        "unique index {b}.alone on {b}.entry does not hold owner",
        source=("CREATE UNIQUE INDEX alone ON {b}.entry (id)",),
    ),
    "a foreign key that does not pair the distribution columns": Case(
        "does not pair the distribution columns",
        source=("ALTER TABLE {b}.entry ADD CONSTRAINT unpaired FOREIGN KEY (note) REFERENCES {b}.account",),
    ),
    "a sequence that cycles": Case(
        "sequence {b}.round: cycles",
        source=(f"SET ROLE {OWNER}", "CREATE SEQUENCE {b}.round MAXVALUE 1000 CYCLE", "RESET ROLE"),
    ),
    "a sequence without room for two": Case(
        "sequence {b}.little: has 3000000 values left",
        source=(f"SET ROLE {OWNER}", "CREATE SEQUENCE {b}.little MAXVALUE 3000000", "RESET ROLE"),
    ),
    "a sequence without room downwards": Case(
        "sequence {b}.below: has 3000000 values left",
        source=(
            f"SET ROLE {OWNER}",
            "CREATE SEQUENCE {b}.below INCREMENT -2 MINVALUE -6000000 START -1",
            "RESET ROLE",
        ),
    ),
    "an identity without room for two": Case(
        "sequence {b}.entry_id_seq: has", source=("ALTER TABLE {b}.entry ALTER id SET MAXVALUE 2000000",)
    ),
}
"""What allows no canary steps: no finding, but one flip of everything."""
