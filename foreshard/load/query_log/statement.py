"""What a statement's text says about buckets: the schemas it names, and what it does to the search path. Pure.

No parser of SQL: a scanner that knows where strings, comments and quoted names begin and end, so that nothing in a
literal is ever taken for a name. Nothing of a text is kept but names that were asked for.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass

_NAME = r"[A-Za-z_\x80-\U0010ffff][\w$]*"
_QUOTED = r'"(?:[^"]|"")*(?:"|\Z)'
_MARK = re.compile(
    rf"""
      (?P<space>--[^\n]* | /\*)
    | (?P<text>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z))
    | (?<![\w$])(?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff]\w*)?\$)
    | (?P<name>(?<![\w$]){_NAME}(?=\s*\.) | {_QUOTED})
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_DOT = re.compile(r"\s*\.")
_WORD = re.compile(r"[\s(]*([A-Za-z]+)")
_SET_PATH = re.compile(
    r"\s*set\s+(?:(?P<scope>local|session)\s+)?(?:search_path\s*(?:=|\bto\b)|(?P<schema>schema)\b)\s*(?P<value>.*)",
    re.IGNORECASE | re.DOTALL,
)
_RESET = re.compile(r"\s*(?:reset\s+(?:all|search_path)|discard\s+all)\b", re.IGNORECASE)
_END = re.compile(
    r"\s*(?:(?P<back>rollback|abort)(?:\s+(?:work|transaction))?(?P<to>\s+to\b)?(?!\s+prepared)"
    r"|(?P<commit>commit|end)(?!\s+prepared))\b",
    re.IGNORECASE,
)
_CONFIG = re.compile(
    r"\bset_config\s*\(\s*(?P<name>'search_path'|\$\d+)\s*(?:::\s*\w+\s*)?,"
    r"\s*(?P<value>[eE]?'(?:[^']|'')*'|\$\d+)\s*(?:::\s*\w+\s*)?,\s*(?P<local>'?\w+'?|\$\d+)",
    re.IGNORECASE,
)
_ELEMENT = re.compile(
    rf"\s*(?:(?P<quoted>{_QUOTED})|(?P<text>[eE]?'(?:[^']|'')*')|(?P<name>{_NAME}))\s*(?:,|\Z|;)"
)
_PARAMETER = re.compile(r"\$(\d+) = ('(?:[^']|'')*'|NULL)")

_CONTROL = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "set", "reset", "show"}
    | {"discard", "deallocate", "listen", "unlisten", "notify", "checkpoint"}
)
"""What a session says about itself and its transaction: load of the shard, of no bucket."""

_OURS = "foreshard"
"""The schema of Foreshard's functions: a router's question for the owner is no statement of the application."""

_ASCII_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class SetPath:
    """The search path is set; ``bucket`` is the first bucket in it, None if it holds none."""

    bucket: str | None
    local: bool


@dataclass(frozen=True)
class Ended:
    """The transaction ends; ``to_savepoint``: it goes on, from a savepoint."""

    rolled_back: bool
    to_savepoint: bool = False


Effect = SetPath | Ended


@dataclass(frozen=True)
class Part:
    """One statement of a message: the buckets it names, whether bare names in it may mean the path's, its effects."""

    buckets: tuple[str, ...]
    uses_path: bool
    effects: tuple[Effect, ...] = ()


def read_statement(text: str, known: Container[str], parameters: str = "") -> tuple[Part, ...]:
    """The statements of a message, in their order. ``parameters``: the values as the log's detail tells them."""
    parts: list[Part] = []
    names: list[str] = []
    start = place = 0
    while (mark := _MARK.search(text, place)) is not None:
        place = mark.end()
        kind = mark.lastgroup
        if kind == "name":
            name = mark["name"]
            if name[0] != '"':
                names.append(fold(name))
            elif _DOT.match(text, place):
                names.append(unquote(name))
        elif kind == "end":
            parts.append(_part(text[start : mark.start()], names, known, parameters))
            names = []
            start = place
        elif kind == "dollar":
            closed = text.find(mark["dollar"], place)
            place = len(text) if closed < 0 else closed + len(mark["dollar"])
        elif kind == "space":
            if mark["space"] == "/*":
                place = _after_comment(text, place)
            if not text[start : mark.start()].strip():
                start = place
    parts.append(_part(text[start:], names, known, parameters))
    return tuple(part for part in parts if part is not _NOTHING) or (_NOTHING,)


def fold(name: str) -> str:
    """A name without quotes, as PostgreSQL reads it: only ASCII letters become small."""
    return name.translate(_ASCII_LOWER)


def unquote(name: str) -> str:
    """A name in double quotes, as PostgreSQL reads it."""
    return name[1:].removesuffix('"').replace('""', '"')


_NOTHING = Part((), uses_path=False)


def _part(text: str, names: list[str], known: Container[str], parameters: str) -> Part:
    word = _WORD.match(text)
    if word is None:
        return _NOTHING
    first = fold(word[1])
    buckets = tuple(dict.fromkeys(name for name in names if name in known))
    effects = _effects(first, text, known, parameters)
    ours = _OURS in names or (first == "select" and bool(effects))
    return Part(buckets, not buckets and first not in _CONTROL and not ours, effects)


def _effects(first: str, text: str, known: Container[str], parameters: str) -> tuple[Effect, ...]:
    if first == "set":
        found = _SET_PATH.match(text)
        if found is None:
            return ()
        return (SetPath(_first_bucket(found["value"], known), (found["scope"] or "").lower() == "local"),)
    if first in ("reset", "discard"):
        return (SetPath(None, False),) if _RESET.match(text) else ()
    if first in ("commit", "end", "rollback", "abort"):
        ended = _END.match(text)
        return () if ended is None else (Ended(bool(ended["back"]), bool(ended["to"])),)
    if first == "select" and "set_config" in text:
        values = dict(_PARAMETER.findall(parameters))
        made = (_configured(match, values, known) for match in _CONFIG.finditer(text))
        return tuple(one for one in made if one is not None)
    return ()


def _configured(match: re.Match[str], values: dict[str, str], known: Container[str]) -> SetPath | None:
    name, value, local = (
        values.get(given[1:], "") if given.startswith("$") else given
        for given in match.group("name", "value", "local")
    )
    if name.strip("'") != "search_path":
        return None
    path = value.removeprefix("E").removeprefix("e").strip()[1:-1].replace("''", "'")
    return SetPath(_first_bucket(path, known), fold(local.strip("'")) in ("true", "t", "on", "1", "yes"))


def _first_bucket(path: str, known: Container[str]) -> str | None:
    place = 0
    while (element := _ELEMENT.match(path, place)) is not None:
        if element["quoted"] is not None:
            name = unquote(element["quoted"])
        elif element["text"] is not None:
            name = element["text"].lstrip("eE")[1:-1].replace("''", "'")
        else:
            name = fold(element["name"])
        if name in known:
            return name
        if element.end() == place or element.end() >= len(path):
            break
        place = element.end()
    return None


def _after_comment(text: str, place: int) -> int:
    depth = 1
    while depth:
        mark = _COMMENT.search(text, place)
        if mark is None:
            return len(text)
        depth += 1 if mark[0] == "/*" else -1
        place = mark.end()
    return place
