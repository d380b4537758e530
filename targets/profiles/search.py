"""Keys of the database by what their documents say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql

from targets.profiles.content import read_documents
from targets.profiles.key import PARTS, KernelKey, canonical
from targets.profiles.schema import KEYS

NAMING = ("op", "ops", "fused")  # the fields of an op document that name operators


@dataclass(frozen=True)
class Wanted:
    """Which keys to look at; empty: all. `device`, `stack`, `regime`: words that their documents say, in any case.
    `op`: an operator's name. `place`: how it was timed, such as "staircase"."""

    device: str = ""
    stack: str = ""
    regime: str = ""
    op: str = ""
    place: str = ""


def find_keys(connection: sql.Connection, wanted: Wanted) -> dict[str, KernelKey]:
    """The keys that are wanted, by digest, in the digests' order. Equal documents are one object."""
    lines = [tuple(line) for line in connection.execute(sql.select(KEYS.c.digest, *(KEYS.c[part] for part in PARTS)))]
    documents: dict[str, dict[str, Any]] = {}
    for place, part in enumerate(PARTS, 1):
        found = read_documents(connection, {line[place] for line in lines})
        good = {digest for digest, document in found.items() if fits(part, document, wanted)}
        lines = [line for line in lines if line[place] in good]
        documents |= found
    return {line[0]: KernelKey(*(documents[digest] for digest in line[1:])) for line in sorted(lines)}


def fits(part: str, document: Mapping[str, Any], wanted: Wanted) -> bool:
    if part == "op":
        return not wanted.op or wanted.op.lower() in map(str.lower, operators(document))
    if part == "method":
        return wanted.place in ("", document.get("place"))
    word: str = getattr(wanted, part)
    return word.lower() in canonical(document).lower()


def operators(op: Mapping[str, Any]) -> tuple[str, ...]:
    """Every operator that an op document names, at any depth, in order."""
    named: list[str] = []
    for name in NAMING:
        value = op.get(name)
        named += [value] if isinstance(value, str) else [each for each in value or () if isinstance(each, str)]
    inside = [name for value in op.values() if isinstance(value, Mapping) for name in operators(value)]
    return tuple(dict.fromkeys([*named, *inside]))
