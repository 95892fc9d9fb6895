"""How a parameter that may be left empty looks in the form of a run, the same in both of Prefect's UIs.

Both show `float | None` as two buttons named by the schema's types, ``float`` and ``None``; with titles they say what
each of the two means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Choice:
    """Of an optional parameter: what the button that asks for a value is called, and the one that leaves it empty.

    Written beside the type: ``Annotated[float | None, Choice("hours", "as in the settings")]``.
    """

    given: str
    empty: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        for one in schema["anyOf"]:
            one["title"] = self.empty if one.get("type") == "null" else self.given
        return schema


@dataclass(frozen=True)
class Help:
    """What stands below a parameter's name in the form.

    Not ``Field(description=...)``: Prefect puts a field of its own around a flow's parameter, whose description is the
    docstring's or none. And not the docstring's ``Args``: the UIs show the docstring as markdown, in which they are
    one paragraph.
    """

    text: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "description": self.text}


def plain_input(schema: dict[str, Any]) -> None:
    """For ``json_schema_extra`` of an optional number or list of a nested model: an input that may stay empty.

    Prefect takes null for a property that is not required and whose schema names no default.
    """
    (kind,) = [one for one in schema.pop("anyOf") if one.get("type") != "null"]
    schema.pop("default", None)
    schema.update(kind | schema)
