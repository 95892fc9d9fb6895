"""Which bucket a key is in: by hash, by a table of the fleet's own, or by a function of the application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from foreshard.errors import InvalidInput
from foreshard.topology.keys import Key

BucketOf: TypeAlias = Callable[[Key], str]
"""The bucket of a key. Raises ``InvalidInput`` (field ``key``) for a key that is in none."""


class BucketingKind(StrEnum):
    """How a fleet finds the bucket of a key."""

    HASH = "hash"
    """PostgreSQL's ``PARTITION BY HASH`` function, modulus: the number of buckets (`keys.bucket_number`)."""

    DIRECTORY = "directory"
    """A table key -> bucket, as a tenant directory is."""

    CALLABLE = "callable"
    """A function of the application."""


_FIELDS = {
    BucketingKind.HASH: frozenset[str](),
    BucketingKind.DIRECTORY: frozenset({"dsn", "table", "key_column", "bucket_column"}),
    BucketingKind.CALLABLE: frozenset({"function"}),
}


@dataclass(frozen=True)
class Bucketing:
    """A kind and what it needs.

    ``directory``: ``dsn`` of the database (without a password) and ``table`` in it, as one writes it in SQL, with its
    ``key_column`` and ``bucket_column``. ``callable``: ``function``, as ``package.module:function``; it takes a key and
    returns the bucket's name.

    Raises:
        InvalidInput: (field ``bucketing.…``) something is missing, or belongs to another kind.
    """

    kind: BucketingKind = BucketingKind.HASH
    dsn: str | None = None
    table: str | None = None
    key_column: str | None = None
    bucket_column: str | None = None
    function: str | None = None

    def __post_init__(self) -> None:
        given = {name for name, value in asdict(self).items() if name != "kind" and value}
        needed = _FIELDS[self.kind]
        for name in sorted(needed - given):
            raise InvalidInput(f"bucketing.{name}", f"is missing; kind {self.kind} needs it.")
        for name in sorted(given - needed):
            raise InvalidInput(f"bucketing.{name}", f"means nothing for kind {self.kind}.")
        if self.function is not None:
            module, _, name = self.function.partition(":")
            if not all(part.isidentifier() for part in (*module.split("."), name)):
                raise InvalidInput("bucketing.function", f"{self.function!r} is not package.module:function.")

    def to_json(self) -> dict[str, str]:
        """Plain JSON, for the control database."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Bucketing:
        """What `to_json` gave; an empty document is ``hash``."""
        return cls(**{**document, "kind": BucketingKind(document.get("kind", BucketingKind.HASH))})
