"""The definitions in a script of pg_restore, one by one: what comes after the data can be made by several at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

from foreshard.errors import ForeshardError

PHASES = (("CONSTRAINT",), ("INDEX",), ("INDEX ATTACH",), ("FK CONSTRAINT",))
"""Kinds of definitions in the order in which they are made; all others come after them, then what only alters one of
those, and comments last. Within one phase the order is free: an index waits for no other, a foreign key only for keys,
and a comment for what it is on."""

_HEADER = re.compile(
    r"^--\n-- Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*); Owner: .*\n--\n",
    re.MULTILINE,
)
_TABLESPACE = re.compile(r"^SET default_tablespace = .*;$", re.MULTILINE)
_END = "\n--\n-- PostgreSQL database dump complete\n--\n"


@dataclass(frozen=True)
class Definition:
    """One object: its kind as pg_restore calls it, its schema and name, and the statements that make it."""

    kind: str
    schema: str
    name: str
    statements: str

    @property
    def label(self) -> str:
        """What it is called in a migration's journal, and by people. Unique in a script."""
        return f"{self.kind.lower()} {self.schema}.{self.name}"

    @property
    def phase(self) -> int:
        """Those of lower phases are made first."""
        if self.kind == "COMMENT":
            return len(PHASES) + 2
        if self.kind == "TRIGGER" and "CREATE " not in self.statements:
            # A partition's trigger comes with its parent's; all that is dumped of it is whether it fires.
            return len(PHASES) + 1
        return next((number for number, kinds in enumerate(PHASES) if self.kind in kinds), len(PHASES))


def definitions(script: str, count: int) -> list[Definition]:
    """The ``count`` definitions of ``script``.

    Raises:
        ForeshardError: it does not consist of so many: a definition's own text looks like a header.
    """
    script = script.partition(_END)[0] + "\n"
    heads = list(_HEADER.finditer(script))
    if len(heads) != count:
        raise ForeshardError(
            f"The definitions that come after the data could not be told apart: {len(heads)} of {count}.",
            remedy="Set migration.backfill to subscription and report this.",
        )
    made = []
    tablespace = _TABLESPACE.findall(script[: heads[0].start()])[-1:] if heads else []
    for head, following in zip_longest(heads, heads[1:]):
        text = script[head.end() : following.start() if following else len(script)]
        statements = "\n".join([*tablespace, _TABLESPACE.sub("", text).strip()])
        made.append(Definition(head["kind"], head["schema"], head["name"], statements))
        # It stands in front of the header of the first that it is for, and is good for all that follow.
        tablespace = _TABLESPACE.findall(text)[-1:] or tablespace
    return made
